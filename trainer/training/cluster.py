"""Ray: a cluster by address, or one of our own on loopback; what a worker asks of it; ended with everything that it started."""

from __future__ import annotations

import os
import secrets
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

from soundscape.errors import Invalid, Reason, Unavailable
from soundscape.settings import HOST, Settings

TRIES = 4
"""To start Ray."""
OBJECT_STORE = 256 * 1024**2
"""Bytes; weights and reports pass through it, sound does not."""


class Request(NamedTuple):
    """What one worker asks of the cluster."""

    cpus: float = 1.0
    memory_gb: float = 0.0
    """0 asks for none in particular."""
    gpus: int = 0

    @classmethod
    def of(cls, settings: Settings) -> Request:
        """As set."""
        return cls(settings.ray_cpus, settings.ray_memory_gb, settings.ray_gpus)

    def resources(self) -> dict[str, float]:
        """In Ray's words; memory in bytes."""
        asked = {"CPU": self.cpus, "memory": self.memory_gb * 1e9, "GPU": float(self.gpus)}
        return {name: value for name, value in asked.items() if value}


def address_of(settings: Settings) -> str | None:
    """Of the cluster to work on: the setting's, or RAY_ADDRESS (which Ray itself sets for what runs as a job); None for one of our own."""
    return settings.ray_address or os.environ.get("RAY_ADDRESS") or None


@contextmanager
def cluster(address: str | None, dashboard: int | None = None, cores: int | None = None) -> Iterator[Any]:
    """Ray, connected: to the cluster at `address`, or to one of our own that ends with the block, whatever ends the block.

    `dashboard` is the port of our own cluster's; `cores` the logical CPUs that it has, those of the machine unless given. SIGTERM ends
    the block as Ctrl-C does. Raises Unavailable if Ray does not start or answer, Invalid if the port is taken.
    """
    environment()
    if dashboard and not address:
        require_free(dashboard)
    import ray

    with stoppable() as again:
        _start(ray, address, dashboard, cores or len(os.sched_getaffinity(0)))
        again()  # Ray prints a stack at SIGTERM
        try:
            yield ray
        finally:
            ray.shutdown()


@contextmanager
def stoppable() -> Iterator[Callable[[], None]]:
    """SIGTERM raises KeyboardInterrupt as Ctrl-C does, so that what was started is ended; call what it gives after others set theirs.

    Afterwards both are as before: Ray leaves a handler of Ctrl-C behind that asks a cluster that is gone.
    """
    if threading.current_thread() is not threading.main_thread():
        yield lambda: None
        return
    before = {one: signal.getsignal(one) for one in (signal.SIGINT, signal.SIGTERM)}

    def ours() -> None:
        signal.signal(signal.SIGINT, before[signal.SIGINT])
        signal.signal(signal.SIGTERM, signal.default_int_handler)

    ours()
    try:
        yield ours
    finally:
        for one, handler in before.items():
            signal.signal(one, handler)


def environment() -> None:
    """What Ray reads from the environment, before it is imported; a token of our own unless there is one."""
    os.environ.update(RAY_USAGE_STATS_ENABLED="0", RAY_TRAIN_V2_ENABLED="1", RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO="0")
    os.environ.setdefault("RAY_TRAIN_ENABLE_STATE_TRACKING", "0")
    os.environ.setdefault("RAY_worker_niceness", "0")  # Ray's default of 15 starves on a machine that does anything else
    # else a worker's children are killed with it, also the one that would remove their semaphores; torch's end by themselves
    os.environ.setdefault("RAY_kill_child_processes_on_worker_exit", "false")
    os.environ.setdefault("RAY_process_group_cleanup_enabled", "false")
    os.environ.setdefault("RAY_AUTH_MODE", "token")  # explicit: Ray changes its mind when it finds a token file
    os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))


def require_free(port: int) -> None:
    """Raises Invalid if somebody listens at the port."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            raise Invalid(
                Reason.BAD_REQUEST, f"Ray needs port {port}, and another process has it; end that, or set another SOUNDSCAPE_PORT_BASE."
            ) from None


def require(ray: Any, request: Request, where: str) -> None:
    """Raises Invalid if no node of the cluster has what a worker asks for: Ray would wait for it for ever."""
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    asked = request.resources()
    if any(all(node.get(name, 0) >= value for name, value in asked.items()) for node in nodes):
        return
    if asked.get("GPU", 0) > max((node.get("GPU", 0) for node in nodes), default=0):
        raise no_gpu(where)
    told = f"{request.cpus:g} CPU" + (f" and {request.memory_gb:g} GB" if request.memory_gb else "")
    raise Invalid(Reason.BAD_REQUEST, f"{told} were asked for, and no node of {where} has as much; ask for less.")


def require_gpu(settings: Settings) -> None:
    """Raises Invalid if a GPU is asked for and the training would be on this machine, which has none; before any work."""
    if settings.ray_gpus and address_of(settings) is None:
        import torch

        if not torch.cuda.is_available():
            raise no_gpu(named(None))


def no_gpu(where: str) -> Invalid:
    """What is said of a GPU that is not there."""
    return Invalid(Reason.BAD_REQUEST, f"A GPU was asked for, and {where} has none; leave it out to train on processors.")


def named(address: str | None) -> str:
    """How a cluster is called in a sentence."""
    return f"the cluster at {address}" if address else "this machine"


def _start(ray: Any, address: str | None, dashboard: int | None, cores: int) -> None:
    """Join a cluster, or start one on loopback; on a busy machine Ray's own 30 s for that can be too few."""
    if address:
        options: dict[str, Any] = {"address": address}
    else:
        options = {
            "num_cpus": cores, "object_store_memory": OBJECT_STORE, "configure_logging": False, "_node_ip_address": HOST,
            "include_dashboard": dashboard is not None, "dashboard_host": HOST, "dashboard_port": dashboard,
        }  # fmt: skip
    for left in reversed(range(TRIES)):
        try:
            ray.init(log_to_driver=False, **options)
        except Exception as error:  # Ray raises plain Exception when its node is late
            ray.shutdown()
            if not left:
                raise Unavailable(f"Ray does not start on {named(address)}: {str(error).splitlines()[0]}") from error
        else:
            return
