"""An outage that outlasts the poll interval of Kafka's clients, with workers that come and go meanwhile."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from compose.local.processes import product_environment
from compose.local.supervision import Supervisor
from compose.local.tools import ROOT
from soundscape.settings import Port
from soundscape.testing import Stack, ogg, running_stack, wait_for
from soundscape.testing_log import flowing

POLL_S = 15
CLIPS = 300


@pytest.fixture(scope="module")
def impatient(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A stack of its own, whose workers leave their group after POLL_S seconds without a poll."""
    with running_stack(tmp_path_factory.mktemp("impatient"), site="test", rebalance_poll_s=str(POLL_S)) as running:
        yield running


@pytest.mark.slow
def test_the_model_server_is_away_while_workers_join_and_leave(impatient: Stack) -> None:
    """Longer than the poll interval; a second worker joins, the first is told to stop: in the end every clip is answered, once."""
    stack, supervisor = impatient, Supervisor(impatient.settings)
    before = stack.audit()
    first = stack.status()["analyse-live-0"]["pid"]
    supervisor.stop(["triton"])
    environment = stack.environment | product_environment(stack.settings) | {"SOUNDSCAPE_REBALANCE_POLL_S": str(POLL_S)}
    command = [sys.executable, "-m", "stream_processors", "live", "1"]
    second: subprocess.Popen[bytes] | None = None
    try:
        with flowing(stack.settings, [ogg(5.0, hertz) for hertz in (500.0, 2000.0, 8000.0)], CLIPS, "outage"):
            wait_for(lambda: _says(stack, 0).get("why"), "the first worker to wait")
            second = subprocess.Popen(command, env=environment, cwd=ROOT, start_new_session=True)
            threading.Event().wait(POLL_S * 1.5)  # the outage's length is what is tried
            os.kill(first, signal.SIGTERM)
            wait_for(lambda: stack.status()["analyse-live-0"]["pid"] not in (None, first), "another first worker")
            threading.Event().wait(POLL_S)
            assert "Triton" in _says(stack, 0).get("why", "") + _says(stack, 1).get("why", ""), "somebody waits, and says for what"
            supervisor.start(["triton"])
        found = stack.audit()
        assert (found["lost"], found["twice"], found["dead"]) == (0, 0, before["dead"])
        assert found["accepted"] == found["predicted"] == before["accepted"] + CLIPS
        partitions = wait_for(lambda: _both(stack), "both workers to share the partitions", 120.0)
        assert partitions == 16
    finally:
        if second is not None:
            second.terminate()
            second.wait(60)
        supervisor.start(["triton"])
    answer = stack.post(ogg(5.0, 2001.0), wait=30, tour_id="after")
    assert answer.status_code == 200, answer.text


def _says(stack: Stack, n: int) -> dict[str, Any]:
    try:
        said: dict[str, Any] = httpx.get(f"{stack.settings.url(Port.LIVE, n)}/healthz", timeout=5.0).json()
    except httpx.HTTPError:
        return {}
    return said


def _both(stack: Stack) -> int:
    """Partitions of both workers together, once each has some."""
    said = [_says(stack, n) for n in range(2)]
    counts = [int(one.get("partitions", 0)) for one in said]
    return sum(counts) if all(counts) and all(one.get("healthy") for one in said) else 0
