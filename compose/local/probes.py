"""Asks each process whether it is healthy, by using it."""

from __future__ import annotations

import shutil
import socket
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import httpx
import numpy as np
import redis
from kafka import KafkaAdminClient
from kafka.errors import KafkaError
from tritonclient import grpc as triton
from tritonclient.utils import InferenceServerException, triton_to_np_dtype

from compose.local.kafka import ROOM_BYTES
from compose.local.processes import Probe, Process
from soundscape.settings import HOST, Port, Settings
from soundscape.topics import CLIPS

LIMIT_S = 5.0
"""What one probe may take: more is not healthy."""


@dataclass(frozen=True)
class Verdict:
    """Whether a process is healthy, and why not (or what is to be said of a healthy one)."""

    healthy: bool
    why: str


def probe_all(settings: Settings, processes: Iterable[Process]) -> dict[str, Verdict]:
    """Probe these processes at the same time."""
    asked = list(processes)
    if not asked:
        return {}
    with ThreadPoolExecutor(len(asked)) as pool:
        return dict(zip([one.name for one in asked], pool.map(lambda one: probe(settings, one), asked), strict=True))


def probe(settings: Settings, process: Process) -> Verdict:
    """Probe one process."""
    ways: dict[Probe, Callable[[Settings, Process], Verdict]] = {
        Probe.HEALTHZ: _healthz,
        Probe.KAFKA: _kafka,
        Probe.REDIS: _redis,
        Probe.TRITON: _triton,
        Probe.MLFLOW: lambda _, one: _http(f"{one.address}/health"),
        Probe.PROMETHEUS: lambda _, one: _http(f"{one.address}/-/ready"),
    }
    try:
        # The cheapest question first: the clients wait long for a port where nobody listens.
        with socket.create_connection((HOST, process.ports[0]), timeout=1.0):
            pass
    except OSError:
        full = shutil.disk_usage(settings.root).free < ROOM_BYTES
        return Verdict(False, "does not listen yet" + ("; the disk is full: free some space" if full else ""))
    return ways[process.probe](settings, process)


def _http(url: str) -> Verdict:
    try:
        answer = httpx.get(url, timeout=LIMIT_S)
    except httpx.HTTPError as error:
        return Verdict(False, f"no answer ({type(error).__name__})")
    return Verdict(answer.is_success, "" if answer.is_success else f"answered {answer.status_code}")


def _healthz(_: Settings, process: Process) -> Verdict:
    """Our own processes know themselves: 200 or 503, with the reason as JSON."""
    try:
        answer = httpx.get(f"{process.address}/healthz", timeout=LIMIT_S)
        said: dict[str, Any] = answer.json()
    except (httpx.HTTPError, ValueError) as error:
        return Verdict(False, f"no answer ({type(error).__name__})")
    return Verdict(answer.is_success, str(said.get("why") or ""))


def broker_topics(settings: Settings) -> set[str] | None:
    """The broker's topics without its own; None while it does not answer."""
    limit = int(LIMIT_S * 1000)
    try:
        admin = KafkaAdminClient(
            bootstrap_servers=settings.address(Port.KAFKA), request_timeout_ms=limit, bootstrap_timeout_ms=limit
        )
    except (KafkaError, OSError, ValueError):
        return None
    try:
        return {topic for topic in admin.list_topics() if not topic.startswith("__")}
    except (KafkaError, OSError):
        return None
    finally:
        admin.close()


def _kafka(settings: Settings, _: Process) -> Verdict:
    """Metadata of the topic `clips`."""
    topics = broker_topics(settings)
    if topics is None:
        return Verdict(False, "the broker does not answer")
    return Verdict(CLIPS.name in topics, f"{len(topics)} topics" if CLIPS.name in topics else "topics are not applied yet")


def _redis(settings: Settings, _: Process) -> Verdict:
    client = redis.Redis(HOST, settings.port(Port.REDIS), socket_timeout=LIMIT_S, socket_connect_timeout=LIMIT_S)
    try:
        client.ping()
        saved = client.info("persistence").get("aof_last_write_status") == "ok"
    except redis.RedisError as error:
        return Verdict(False, f"no PONG ({error})")
    finally:
        client.close()
    return Verdict(saved, "" if saved else "cannot write its append-only file (disk full?)")


def _triton(settings: Settings, _: Process) -> Verdict:
    """A synthetic inference on every model that is loaded; with none loaded, the server's own word that it lives.

    Not its word that it is ready: one refused model takes that away, while all that are loaded answer.
    """
    client = triton.InferenceServerClient(settings.address(Port.TRITON_GRPC))
    try:
        if not client.is_server_live(client_timeout=LIMIT_S):
            return Verdict(False, "not live")
        index = client.get_model_repository_index(as_json=True, client_timeout=LIMIT_S).get("models", [])
        loaded = sorted({model["name"] for model in index if model.get("state") == "READY"})
        failed = [f"{name}: {said}" for name in loaded if (said := infer_once(client, name))]
    except InferenceServerException as error:
        return Verdict(False, f"no answer ({error.message()})")
    finally:
        client.close()
    return Verdict(not failed, "; ".join(failed) or f"{len(loaded)} models answer")


def infer_once(client: Any, model: str) -> str:
    """One inference on an input of zeros made from the model's own metadata; what was wrong, or nothing.

    A stub that died leaves its model "ready": only an inference tells.
    """
    try:
        about = client.get_model_metadata(model, as_json=True, client_timeout=LIMIT_S)
        inputs = []
        for one in about["inputs"]:
            shape = [max(1, int(size)) for size in one["shape"]]
            tensor = triton.InferInput(one["name"], shape, one["datatype"])
            tensor.set_data_from_numpy(np.zeros(shape, triton_to_np_dtype(one["datatype"])))
            inputs.append(tensor)
        answer = client.infer(model, inputs, client_timeout=LIMIT_S)
        empty = [one["name"] for one in about["outputs"] if answer.as_numpy(one["name"]).size == 0]
    except InferenceServerException as error:
        return str(error.message())
    return f"empty output {', '.join(empty)}" if empty else ""
