"""Brings the stack up and takes it down: idempotent, safe to call twice at once, and clean after a crash."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import psutil
from filelock import FileLock

from compose.local import orphans
from compose.local.probes import broker_topics, probe_all
from compose.local.processes import Process, processes, with_needs
from compose.local.supervision import RUNNING, Supervisor
from compose.local.triton import clear_shared_memory
from soundscape.errors import Invalid, Reason, Unavailable
from soundscape.settings import Settings
from soundscape.topic_admin import apply_topics

Say = Callable[[str], None]
HEALTHY_S = 240.0
"""How long `up` waits for everything to be healthy: the first start of a cold machine takes the longest."""
STEP_S = 0.5


@contextmanager
def exclusive(settings: Settings) -> Iterator[None]:
    """Only one `up` or `down` of a stack at a time; the second waits."""
    make_folders(settings)
    with FileLock(settings.state / "stack.lock"):
        yield


def make_folders(settings: Settings) -> None:
    """All folders below the data folder that the processes expect."""
    root = settings.root
    root.mkdir(parents=True, exist_ok=True)
    settings.state.mkdir(mode=0o700, exist_ok=True)
    settings.state.chmod(0o700)
    online = (settings.online_input, settings.online_output)
    stores = (root / "kafka", root / "redis", root / "prometheus", root / "mlflow")
    for folder in (settings.logs, settings.releases, settings.model_repository, *online, *stores):
        folder.mkdir(parents=True, exist_ok=True)


def choose(settings: Settings, names: Sequence[str]) -> list[Process]:
    """The named processes with what they need; all of them if none is named. Raises Invalid for a name that is none."""
    everything = processes(settings)
    known = {one.name: one for one in everything}
    if unknown := [name for name in names if name not in known]:
        raise Invalid(Reason.BAD_REQUEST, f"There is no process {', '.join(unknown)}; there are {', '.join(known)}.")
    return with_needs([known[name] for name in names], everything) if names else everything


def up(settings: Settings, names: Sequence[str], say: Say, limit_s: float = HEALTHY_S) -> list[str]:
    """Start what is not running and wait until it is healthy; returns the names of those that are not by then.

    Raises Invalid if a port is taken by a stranger, Broken if the supervisor cannot be started.
    """
    wanted = choose(settings, names)
    with exclusive(settings):
        supervisor = Supervisor(settings)
        alive = supervisor.alive()
        if not alive:
            end_orphans(settings, say)
        running = {name for name, info in supervisor.states().items() if info["statename"] in RUNNING}
        check_ports(settings, [one for one in wanted if one.name not in running])
        everything = processes(settings)
        if alive:
            supervisor.bring_up_to_date(everything)
        else:
            supervisor.start_supervisord(everything)
        servers = [one.name for one in wanted if not one.needs]
        supervisor.start(servers)
        deadline = time.monotonic() + limit_s
        if "kafka" in servers:
            say("Waiting for Kafka …")
            wait_for_broker(settings, deadline)
            for line in apply_topics(settings):
                say(f"  topic {line}")
        supervisor.start(one.name for one in wanted if one.needs)
        return wait_until_healthy(settings, wanted, deadline, say)


def end_orphans(settings: Settings, say: Say) -> None:
    """End what a stack that lost its supervisor has left running, and clear its shared memory."""
    left = orphans.members(settings.root, settings.state)
    if left:
        say(f"Ending {len(left)} processes that an earlier stack left behind …")
    leave_nothing(settings, left)


def leave_nothing(settings: Settings, ours: Sequence[psutil.Process]) -> None:
    """End these processes and clear what they had in shared memory."""
    left = orphans.semaphores(ours)
    orphans.end(ours)
    orphans.forget(settings.state)
    for path in left:
        path.unlink(missing_ok=True)
    clear_shared_memory(settings.root)


def check_ports(settings: Settings, starting: Sequence[Process]) -> None:
    """Free the ports of these processes from what is ours; raises Invalid, naming port and owner, if a stranger has one."""
    uses = {port: one.name for one in starting for port in one.ports}
    taken = sorted(orphans.listeners(set(uses)).items())
    ours = orphans.members(settings.root, settings.state) if taken else []
    for port, owner in taken:
        if owner in ours:
            orphans.end([owner])
        else:
            raise Invalid(Reason.BAD_REQUEST, orphans.taken_message(uses[port], port, owner))


def wait_for_broker(settings: Settings, deadline: float) -> None:
    """Raises Unavailable if the broker does not answer in time."""
    while broker_topics(settings) is None:
        if time.monotonic() > deadline:
            raise Unavailable("Kafka does not answer; `soundscape logs kafka` says why.")
        time.sleep(STEP_S)


def wait_until_healthy(settings: Settings, wanted: Sequence[Process], deadline: float, say: Say) -> list[str]:
    """Say of each process when it is healthy; returns those that are not when the time is over."""
    began = time.monotonic()
    waiting = {one.name: one for one in wanted}
    told = began
    while waiting:
        verdicts = probe_all(settings, waiting.values())
        for name, verdict in verdicts.items():
            if verdict.healthy:
                del waiting[name]
                say(f"  {name} is healthy{f' ({verdict.why})' if verdict.why else ''}")
        now = time.monotonic()
        if waiting and now > deadline:
            break
        if waiting and now - told > 10:
            told = now
            say("  … waiting for " + ", ".join(f"{name} ({verdicts[name].why})" for name in waiting))
        if waiting:
            time.sleep(STEP_S)
    return list(waiting)


def down(settings: Settings, say: Say) -> int:
    """Stop everything, also where the supervisor is gone; returns how many processes were ended. Safe to call again."""
    with exclusive(settings):
        supervisor = Supervisor(settings)
        there = orphans.members(settings.root, settings.state)
        if supervisor.alive():
            say("Stopping the stack …")
            left = orphans.semaphores(there)
            supervisor.shut_down()
            keeper = orphans.supervisor(settings.state)
            if keeper is not None:
                orphans.wait_for(keeper)
            for path in left:
                path.unlink(missing_ok=True)
        # Whatever is still there: children of killed parents, or all of it where the supervisor was gone.
        leave_nothing(settings, orphans.members(settings.root, settings.state))
        return len(there)
