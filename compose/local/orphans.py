"""Processes that belong to a stack, found by recorded pid and start time, by session and by mark; and who holds a port."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

import psutil

from compose.local.processes import MARK

GRACE_S = 25.0
"""What a process is given to end before it is killed: Kafka's orderly shutdown takes the longest."""
RECORD = "stack.json"
SHM = "/dev/shm/"
PYTHON_SEMAPHORE = "sem.mp-"
"""How multiprocessing names its semaphores."""
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
"""Another at each start of the machine: pids and session ids of an earlier one say nothing."""


def record(state: Path, pid: int) -> None:
    """Write down the supervisor: pid, start time and boot, so that another process with that pid is never taken for it."""
    part = state / f"{RECORD}.part"
    part.write_text(json.dumps({"pid": pid, "created": psutil.Process(pid).create_time(), "boot": BOOT_ID.read_text().strip()}))
    part.replace(state / RECORD)


def recorded(state: Path) -> tuple[int, float] | None:
    """The pid and the start time of the last supervisor, if one was written down since the machine was started."""
    try:
        found = json.loads((state / RECORD).read_text())
        return (int(found["pid"]), float(found["created"])) if found["boot"] == BOOT_ID.read_text().strip() else None
    except (FileNotFoundError, ValueError, KeyError):
        return None


def forget(state: Path) -> None:
    """Remove the record: nothing runs."""
    (state / RECORD).unlink(missing_ok=True)


def supervisor(state: Path) -> psutil.Process | None:
    """The recorded supervisor, if it is alive and the same."""
    found = recorded(state)
    if found is None:
        return None
    try:
        process = psutil.Process(found[0])
        alive = process.status() != psutil.STATUS_ZOMBIE and _same(process, found[1])
    except psutil.NoSuchProcess:
        return None
    return process if alive else None


def _same(process: psutil.Process, created: float) -> bool:
    return bool(abs(process.create_time() - created) < 0.01)


def marked(process: psutil.Process, root: Path) -> bool:
    """Whether a process inherited the mark of the stack in `root`."""
    try:
        return process.environ().get(MARK) == str(root)
    except (psutil.Error, OSError):
        return False


def members(root: Path, state: Path) -> list[psutil.Process]:
    """Every living process of the stack in `root`, supervisor included.

    A child of the recorded supervisor shares its session (supervisord is a session's leader) and is younger; that holds after
    the supervisor was killed, and for programs that overwrite their environment (Redis). The mark finds those that opened
    a session of their own. The kernel gives a pid to nobody while a session has its number: where another process has
    the supervisor's pid, none of its session is left, and the session of that number is a stranger's.
    """
    found = recorded(state)
    with suppress(psutil.NoSuchProcess):
        if found is not None and not _same(psutil.Process(found[0]), found[1]):
            found = None
    return [one for one in psutil.process_iter() if one.pid != os.getpid() and _belongs(one, root, found)]


def _belongs(process: psutil.Process, root: Path, found: tuple[int, float] | None) -> bool:
    try:
        if process.status() == psutil.STATUS_ZOMBIE:
            return False
        if found is not None and os.getsid(process.pid) == found[0] and process.create_time() >= found[1] - 0.01:
            return True
    except (psutil.Error, ProcessLookupError, PermissionError):
        return False
    return marked(process, root)


def end(processes: Iterable[psutil.Process], grace_s: float = GRACE_S) -> int:
    """Ask the processes to end, kill those that do not; returns how many there were."""
    asked = list(processes)
    for process in asked:
        _signal(process, kill=False)
    _, alive = psutil.wait_procs(asked, timeout=grace_s)
    for process in alive:
        _signal(process, kill=True)
    psutil.wait_procs(alive, timeout=5)
    return len(asked)


def wait_for(process: psutil.Process) -> None:
    """Wait until a process has ended, or the grace is over."""
    psutil.wait_procs([process], timeout=GRACE_S)


def _signal(process: psutil.Process, kill: bool) -> None:
    try:
        if kill:
            process.kill()
        else:
            process.terminate()
    except psutil.NoSuchProcess:
        return


def semaphores(processes: Iterable[psutil.Process]) -> set[Path]:
    """The semaphores in /dev/shm that these processes have mapped: they outlive owners that were killed together."""
    found: set[Path] = set()
    for process in processes:
        try:
            maps = Path(f"/proc/{process.pid}/maps").read_text()
        except OSError:
            continue
        found |= {Path(line[line.index(SHM) :]) for line in maps.splitlines() if SHM + PYTHON_SEMAPHORE in line}
    return found


def listeners(ports: set[int]) -> dict[int, psutil.Process | None]:
    """Who listens on each of the ports that are taken; None where the owner is another user's and cannot be seen."""
    found: dict[int, psutil.Process | None] = {}
    for one in psutil.net_connections(kind="tcp"):
        if one.status == psutil.CONN_LISTEN and one.laddr and one.laddr.port in ports:
            try:
                found[one.laddr.port] = psutil.Process(one.pid) if one.pid else None
            except psutil.NoSuchProcess:
                continue
    return found


def describe(process: psutil.Process | None) -> str:
    """A process for people: its pid and its command."""
    if process is None:
        return "a process of another user"
    try:
        line = " ".join(process.cmdline()) or process.name()
    except psutil.Error:
        line = "?"
    return f"process {process.pid} ({line if len(line) <= 100 else line[:99] + '…'})"


def taken_message(name: str, port: int, owner: psutil.Process | None) -> str:
    """One sentence: the port, what it is for, who has it and what to do."""
    return f"Port {port} ({name}) is taken by {describe(owner)}; end it, or choose others with SOUNDSCAPE_PORT_BASE."
