"""The processes of the local stack, each declared once: command, ports, what it needs first, how it is stopped."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path

from compose.local import tools
from soundscape.settings import HOST, Port, Settings
from soundscape.topics import group_of

MARK = "SOUNDSCAPE_STACK"
"""Environment variable that every process of a stack inherits; its value is the stack's data folder."""


class Probe(Enum):
    """How a process is asked whether it is healthy."""

    HEALTHZ = "GET /healthz"
    KAFKA = "metadata of the topic clips"
    REDIS = "PING"
    TRITON = "a synthetic inference on each loaded model"
    MLFLOW = "GET /health"
    PROMETHEUS = "GET /-/ready"


@dataclass(frozen=True)
class Process:
    """One supervised process. `ports` are all that it listens to, the first being its address."""

    name: str
    command: tuple[str, ...]
    ports: tuple[int, ...]
    probe: Probe
    scheme: str = "http"
    environment: dict[str, str] = field(default_factory=dict)
    needs: tuple[str, ...] = ()
    metrics_port: int | None = None
    stop_s: int = 20

    @property
    def address(self) -> str:
        """Where it answers: an http URL, or HOST:PORT."""
        return f"http://{HOST}:{self.ports[0]}" if self.scheme == "http" else f"{HOST}:{self.ports[0]}"


def processes(settings: Settings) -> list[Process]:
    """All of them, in the order in which they start."""
    common = product_environment(settings)

    def python(name: str, module: str, port: int, *arguments: str, needs: tuple[str, ...] = ("kafka",), nice: int = 0) -> Process:
        command = (*(("nice", "-n", str(nice)) if nice else ()), str(tools.VENV_PYTHON), "-m", module, *arguments)
        return Process(name, command, (port,), Probe.HEALTHZ, environment=common, needs=needs, metrics_port=port)

    def workers(lane: str, first: Port, count: int, nice: int) -> list[Process]:
        return [
            python(f"{group_of(lane)}-{n}", "stream_processors", settings.port(first, n), lane, str(n), nice=nice)
            for n in range(count)
        ]

    return [
        *servers(settings, common),
        python("deployer", "consumers.deployer_door", settings.port(Port.DEPLOYER)),
        *workers("live", Port.LIVE, settings.live_workers, 0),
        # The bulk lane gives way: a guide's clip never waits behind the recorders' backlog.
        *workers("bulk", Port.BULK, settings.bulk_workers, 10),
        # What nobody waits for comes last of all.
        python("shadow", "stream_processors.shadow", settings.port(Port.SHADOW), nice=19),
        python("tours", "stream_processors.tours", settings.port(Port.TOURS), nice=19),
        python("sample", "stream_processors.sample", settings.port(Port.SAMPLE), nice=19),
        python("gateway", "producers.gateway", settings.port(Port.GATEWAY), needs=("kafka", "redis")),
        python("watcher", "producers.watcher", settings.port(Port.WATCHER)),
        python("board", "consumers.board", settings.port(Port.BOARD), needs=("kafka", "redis")),
        python("results", "consumers.results", settings.port(Port.RESULTS)),
        python("labeler", "consumers.labeler", settings.port(Port.LABELER), nice=19),
        python("archive", "consumers.archive", settings.port(Port.ARCHIVE), nice=19),
        python("quality", "consumers.quality", settings.port(Port.QUALITY), nice=19),
    ]


def servers(settings: Settings, common: dict[str, str]) -> list[Process]:
    """The programs of others: broker, store, model server, metrics, registry."""
    python, root, port = str(tools.VENV_PYTHON), settings.root, settings.port
    plain = {key: common[key] for key in ("SOUNDSCAPE_DATA_DIR", "SOUNDSCAPE_PORT_BASE", "OMP_NUM_THREADS", "PYTHONUNBUFFERED")}
    redis = (
        program(tools.REDIS), "--bind", HOST, "--port", str(port(Port.REDIS)), "--dir", str(root / "redis"),
        "--appendonly", "yes", "--appendfsync", "everysec", "--save", "", "--daemonize", "no",
    )  # fmt: skip
    return [
        Process("kafka", (python, "-m", "compose.local.kafka"), (port(Port.KAFKA), port(Port.KAFKA_CONTROLLER)),
                Probe.KAFKA, scheme="kafka", environment=plain, stop_s=40),
        Process("redis", redis, (port(Port.REDIS),), Probe.REDIS, scheme="redis"),
        Process("triton", (python, "-m", "compose.local.triton"),
                (port(Port.TRITON_HTTP), port(Port.TRITON_GRPC), port(Port.TRITON_METRICS)),
                Probe.TRITON, environment=plain, metrics_port=port(Port.TRITON_METRICS)),
        # It is given every setting, so that it starts again, with other targets, when the number of workers changes.
        Process("prometheus", (python, "-m", "compose.local.prometheus"), (port(Port.PROMETHEUS),), Probe.PROMETHEUS,
                environment=common, metrics_port=port(Port.PROMETHEUS)),
        Process("mlflow", (python, "-m", "compose.local.mlflow"), (port(Port.MLFLOW),), Probe.MLFLOW, environment=plain),
    ]  # fmt: skip


def program(wanted: tools.SystemProgram) -> str:
    """The path of a program of the system, or its bare name where it is missing (then the supervisor says so)."""
    return str(tools.find_program(wanted) or wanted.name)


def product_environment(settings: Settings) -> dict[str, str]:
    """What the product's own processes are given: every setting, absolute, and one thread for each library's pool."""
    values = settings.model_dump(exclude={"xeno_canto_key"})  # a secret that none of them needs
    given = {f"SOUNDSCAPE_{name.upper()}": str(value) for name, value in values.items() if value is not None}
    return given | {
        "SOUNDSCAPE_DATA_DIR": str(settings.root),
        "OMP_NUM_THREADS": "1",
        "PYTHONUNBUFFERED": "1",
        "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "RAY_USAGE_STATS_ENABLED": "0",
    }


def with_needs(wanted: list[Process], everything: list[Process]) -> list[Process]:
    """The wanted processes and those that they need, in starting order."""
    names = {one.name for one in wanted} | {need for one in wanted for need in one.needs}
    return [one for one in everything if one.name in names]


def memory_prefix(root: Path) -> str:
    """How the names of this stack's shared memory in /dev/shm begin; no other stack's do."""
    return f"soundscape_{hashlib.sha256(str(root).encode()).hexdigest()[:12]}_"
