"""Kill -9 of each kind of process while clips flow on both lanes: in the end none is lost and none is counted twice."""

from __future__ import annotations

import threading
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any
from uuid import uuid4

import httpx
import psutil
import pytest

from compose.local.processes import processes
from compose.local.supervision import Supervisor
from soundscape.settings import Settings
from soundscape.testing import Stack, ogg, wait_for
from soundscape.testing_log import flowing
from soundscape.topics import LANES

CLIPS = 300
CORE = ["analyse-live-0", "analyse-bulk-0", "kafka", "triton", "gateway", "board"]
"""Killed one after the other in the plain run; each process alone in `make test-all`."""
ALL = [one.name for one in processes(Settings())]
FILES = 6
RECORDED = datetime(2026, 3, 1, tzinfo=UTC)


class Users:
    """A guide over HTTP who sends again what was not taken, and files in the watched folder, while something dies."""

    def __init__(self, stack: Stack, name: str) -> None:
        self._stack, self._stop, self._tag = stack, threading.Event(), f"{name}-{uuid4().hex[:6]}"
        self.clips: list[str] = []
        self.files = [f"{self._tag}-{n}" for n in range(FILES)]

    def __enter__(self) -> Users:
        self._stack.run("deploy", "tones")  # the watched folder's site
        for stem in self.files:
            hidden = self._stack.settings.online_input / f".{stem}"
            hidden.write_bytes(ogg(5.0, 2000.0))
            hidden.rename(hidden.with_name(f"{stem}.ogg"))
        self._thread = threading.Thread(target=self._guide)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _guide(self) -> None:
        while not self._stop.wait(0.2):
            moment = RECORDED + timedelta(seconds=len(self.clips))
            try:
                answer = self._stack.post(ogg(5.0, 500.0), site="test", tour_id=self._tag, recorded_at=moment.isoformat(), wait=20)
            except httpx.TransportError:
                continue  # the same clip again
            if answer.status_code in (200, 202):
                self.clips.append(answer.json()["clip_id"])

    def answered(self) -> None:
        """Every clip that was taken and every file have their answers."""
        for clip in self.clips:
            wait_for(partial(self._is_answered, clip), f"the answer of {clip}")
        for stem in self.files:
            wait_for((self._stack.settings.online_output / f"{stem}.csv").exists, f"the answer of {stem}")
        assert self.clips, "nobody sent anything"

    def _is_answered(self, clip: str) -> bool:
        url, key = f"{self._stack.gateway_url}/v1/clips/{clip}", {"X-API-Key": self._stack.key}
        return bool(httpx.get(url, headers=key, timeout=30.0).json().get("state") == "predicted")


def pid_of(stack: Stack, name: str) -> int:
    """The pid of a supervised process, waited for."""
    return int(wait_for(lambda: Supervisor(stack.settings).states()[name]["pid"], f"{name} to run"))


def kill(pid: int) -> None:
    """Kill -9, and wait until it is gone."""
    process = psutil.Process(pid)
    process.kill()
    wait_for(lambda: not process.is_running() or process.status() == psutil.STATUS_ZOMBIE, f"the end of {pid}")


def whole_again(stack: Stack) -> None:
    """Every process is healthy."""

    def sick() -> dict[str, Any]:
        return {name: row for name, row in stack.status().items() if not row["healthy"]}

    wait_for(lambda: not sick(), "every process to be healthy again", 180.0)


def bodies() -> list[bytes]:
    """Clips of each tone."""
    return [ogg(5.0, hertz) for hertz in (500.0, 2000.0, 8000.0)]


def audited(stack: Stack, before: dict[str, int], more: int) -> None:
    """Everything that was accepted since is predicted; nothing is lost, nothing counted twice."""
    found = stack.audit()
    assert (found["lost"], found["twice"]) == (0, 0), found
    assert found["accepted"] == before["accepted"] + more
    assert found["predicted"] + found["dead"] == found["accepted"]
    assert found["predicted"] >= before["predicted"] + more


def test_the_core_is_killed_process_by_process(stack: Stack) -> None:
    """Workers of both lanes, broker, model server, gateway and board, one after the other under one flow."""
    before = stack.audit()
    with flowing(stack.settings, bodies(), CLIPS, "core") as flow:
        killed = []
        for n, name in enumerate(CORE):
            flow.reaches(CLIPS * (n + 1) // (len(CORE) + 2))
            killed.append((name, pid := pid_of(stack, name)))
            kill(pid)
    whole_again(stack)
    assert all(pid_of(stack, name) != pid for name, pid in killed), "each was started again"
    audited(stack, before, CLIPS)


@pytest.mark.slow
@pytest.mark.parametrize("name", ALL)
def test_one_process_is_killed(stack: Stack, name: str) -> None:
    """Alone, in the middle of the flow, with a guide who waits for answers and files on their way."""
    before = stack.audit()
    with Users(stack, name) as users, flowing(stack.settings, bodies(), CLIPS, f"one-{name}") as flow:
        pid = pid_of(stack, name)
        flow.reaches(CLIPS // 3)
        kill(pid)
    wait_for(lambda: pid_of(stack, name) != pid, f"{name} to be started again")
    whole_again(stack)
    users.answered()
    audited(stack, before, CLIPS + len(users.clips) + FILES)


@pytest.mark.slow
@pytest.mark.parametrize("lane", LANES)
def test_decoding_children_are_killed(stack: Stack, lane: str) -> None:
    """Each child of a lane's worker as it comes: other clips' children live, and a clip that was in their hands is tried again."""
    before = stack.audit()
    worker = psutil.Process(pid_of(stack, f"analyse-{lane}-0"))
    with flowing(stack.settings, bodies(), CLIPS, f"children-{lane}") as flow:
        for goal in range(CLIPS // 8, CLIPS, CLIPS // 8):
            flow.reaches(goal)
            kill(wait_for(lambda: decoders(worker), "a decoding child")[0].pid)
    assert worker.is_running()
    whole_again(stack)
    audited(stack, before, CLIPS)


def decoders(worker: psutil.Process) -> list[psutil.Process]:
    """A worker's decoding children, without Python's helper processes."""
    found = []
    for one in worker.children(recursive=True):
        with suppress(psutil.NoSuchProcess):  # killed a moment ago, and not yet reaped
            if "spawn_main" in " ".join(one.cmdline()):
                found.append(one)
    return found


@pytest.mark.slow
def test_the_supervisor_is_killed_and_up_brings_all_back(stack: Stack) -> None:
    """Its orphans are found and ended; the clips that flowed meanwhile are answered by their successors."""
    before = stack.audit()
    orphans = {row["pid"] for row in stack.status().values()}
    with flowing(stack.settings, bodies(), CLIPS, "supervisor") as flow:
        flow.reaches(CLIPS // 3)
        kill(int((stack.settings.state / "supervisord.pid").read_text()))
        assert all(psutil.pid_exists(pid) for pid in orphans), "its children live on"
        stack.run("up")
    assert not orphans & {row["pid"] for row in stack.status().values()}
    whole_again(stack)
    audited(stack, before, CLIPS)
