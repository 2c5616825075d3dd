"""Finding and ending what a dead supervisor left behind, with real processes."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from compose.local import orphans, stack
from compose.local.processes import MARK, Probe, Process
from soundscape.errors import Invalid
from soundscape.settings import Settings

SLEEP = "import time; print('ready', flush=True); time.sleep(600)"


class Children:
    """Starts sleeping processes and ends them with the test."""

    def __init__(self) -> None:
        self.started: list[subprocess.Popen[bytes]] = []

    def sleeper(self, environment: dict[str, str] | None = None, code: str = SLEEP, session: bool = True) -> psutil.Process:
        """A process that has begun to sleep."""
        child = subprocess.Popen(
            [sys.executable, "-c", code], env=os.environ | (environment or {}), stdout=subprocess.PIPE, start_new_session=session
        )
        self.started.append(child)
        assert child.stdout is not None
        assert child.stdout.readline() == b"ready\n"
        return psutil.Process(child.pid)


@pytest.fixture
def children() -> Iterator[Children]:
    made = Children()
    yield made
    for child in made.started:
        child.kill()
        child.wait()
        assert child.stdout is not None
        child.stdout.close()


def test_a_child_is_found_by_its_session_after_its_supervisor_was_killed(tmp_path: Path, children: Children) -> None:
    code = (
        "import subprocess, sys, time\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])\n"
        f"open({str(tmp_path / 'child')!r}, 'w').write(str(child.pid))\n"
        "print('ready', flush=True); time.sleep(600)"
    )
    keeper = children.sleeper(code=code)
    orphans.record(tmp_path, keeper.pid)
    left = psutil.Process(int((tmp_path / "child").read_text()))
    keeper.kill()
    keeper.wait(10)
    try:
        assert orphans.supervisor(tmp_path) is None
        assert orphans.members(tmp_path, tmp_path) == [left]
    finally:
        assert orphans.end([left]) == 1
    assert orphans.members(tmp_path, tmp_path) == []


def test_a_process_with_a_session_of_its_own_is_found_by_its_mark(tmp_path: Path, children: Children) -> None:
    mine = children.sleeper({MARK: str(tmp_path)})
    children.sleeper({MARK: str(tmp_path / "other")})
    assert orphans.members(tmp_path, tmp_path) == [mine]


def test_another_process_with_the_recorded_pid_is_a_stranger(tmp_path: Path, children: Children) -> None:
    stranger = children.sleeper()
    orphans.record(tmp_path, stranger.pid)
    assert orphans.supervisor(tmp_path) == stranger
    found = json.loads((tmp_path / orphans.RECORD).read_text())
    (tmp_path / orphans.RECORD).write_text(json.dumps(found | {"created": found["created"] - 100}))
    assert orphans.supervisor(tmp_path) is None
    assert orphans.members(tmp_path, tmp_path) == []


def test_a_record_of_another_boot_is_no_record(tmp_path: Path, children: Children) -> None:
    stranger = children.sleeper()
    orphans.record(tmp_path, stranger.pid)
    assert orphans.members(tmp_path, tmp_path) == [stranger]
    found = json.loads((tmp_path / orphans.RECORD).read_text())
    (tmp_path / orphans.RECORD).write_text(json.dumps(found | {"boot": "another"}))
    assert orphans.supervisor(tmp_path) is None
    assert orphans.members(tmp_path, tmp_path) == []


def test_half_a_record_is_no_record(tmp_path: Path) -> None:
    (tmp_path / orphans.RECORD).write_text('{"pid": 1')
    assert orphans.recorded(tmp_path) is None


def test_what_will_not_end_is_killed(tmp_path: Path, children: Children) -> None:
    deaf = children.sleeper(code="import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)\n" + SLEEP)
    orphans.end([deaf], grace_s=0.2)
    assert not deaf.is_running() or deaf.status() == psutil.STATUS_ZOMBIE


def test_a_taken_port_is_named_with_its_owner(tmp_path: Path) -> None:
    settings = Settings.model_validate({"data_dir": tmp_path})
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with pytest.raises(Invalid) as refused:
            stack.check_ports(settings, [Process("gateway", ("x",), (port,), Probe.HEALTHZ)])
    said = str(refused.value)
    assert f"Port {port} (gateway)" in said
    assert f"process {os.getpid()} (" in said
    assert "SOUNDSCAPE_PORT_BASE" in said


def test_a_port_that_an_orphan_of_ours_holds_is_freed(tmp_path: Path, children: Children) -> None:
    code = (
        "import socket\nserver = socket.create_server(('127.0.0.1', 0))\n"
        f"open({str(tmp_path / 'port')!r}, 'w').write(str(server.getsockname()[1]))\n"
    )
    orphan = children.sleeper({MARK: str(tmp_path)}, code=code + SLEEP)
    port = int((tmp_path / "port").read_text())
    settings = Settings.model_validate({"data_dir": tmp_path})
    stack.check_ports(settings, [Process("gateway", ("x",), (port,), Probe.HEALTHZ)])
    assert orphans.listeners({port}) == {}
    assert not orphan.is_running() or orphan.status() == psutil.STATUS_ZOMBIE


def test_an_unknown_name_is_refused_with_those_there_are(tmp_path: Path) -> None:
    with pytest.raises(Invalid, match=r"no process kafkka; there are kafka, redis"):
        stack.choose(Settings.model_validate({"data_dir": tmp_path}), ["kafkka"])


def test_the_state_is_private(tmp_path: Path) -> None:
    settings = Settings.model_validate({"data_dir": tmp_path / "var"})
    stack.make_folders(settings)
    assert settings.state.stat().st_mode & 0o777 == 0o700
    assert settings.online_input.is_dir()
