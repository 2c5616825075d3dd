"""The stack as a whole: two `up` at once do no harm, `doctor` and `logs` say what is there, and `down` leaves nothing."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from soundscape.settings import Port
from soundscape.testing import COMMAND, Stack, free_base


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Stack]:
    """A stack of which only Redis is started; down at the end, whatever happened."""
    stack = Stack(tmp_path, free_base())
    yield stack
    stack.run("down", check=False)


def left(stack: Stack) -> list[str]:
    """Command lines of the processes that know the stack's folder, but for this one; Redis writes over its own with its address."""
    known, found = (str(stack.settings.root), stack.settings.address(Port.REDIS)), []
    for process in psutil.process_iter():
        try:
            if process.pid != os.getpid() and _says(process, known):
                found.append(" ".join(process.cmdline()))
        except (psutil.NoSuchProcess, psutil.AccessDenied, psutil.ZombieProcess):
            continue
    return found


def _says(process: psutil.Process, known: tuple[str, ...]) -> bool:
    said = " ".join((*process.cmdline(), *process.environ().values()))
    return any(one in said for one in known)


def test_two_ups_at_once_and_down_leaves_nothing(small: Stack) -> None:
    shared = set(Path("/dev/shm").iterdir())
    up = [COMMAND, "up", "redis"]
    ups = [subprocess.Popen(up, env=small.environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) for _ in range(2)]
    said = [one.communicate(timeout=120)[0].decode() for one in ups]
    assert [one.returncode for one in ups] == [0, 0], said
    redis = small.status()["redis"]
    assert redis["healthy"] and redis["pid"]
    servers = [line for line in left(small) if "redis-server" in line]
    assert len(servers) == 1, servers
    assert "eady to accept connections" in small.run("logs", "redis").stdout
    small.run("down")
    assert left(small) == []
    assert set(Path("/dev/shm").iterdir()) <= shared
    assert small.status()["redis"]["pid"] is None


def test_doctor_finds_what_set_up_installed(small: Stack) -> None:
    said = small.run("doctor").stdout
    for name in ("java", "redis-server", "prometheus", "triton", "kafka jars"):
        assert any(line.startswith(name) and "found" in line for line in said.splitlines()), said


def test_a_log_of_nothing_is_one_sentence(small: Stack) -> None:
    done = small.run("logs", "no-such-process", check=False)
    assert done.returncode == 2 and "no-such-process" in done.stderr and "Traceback" not in done.stderr
