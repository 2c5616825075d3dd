"""An outage that outlasts the poll interval of Kafka's clients, with workers that come and go meanwhile."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from compose.local.supervision import Supervisor
from soundscape.settings import Port
from soundscape.testing import Stack, ogg, running_stack, wait_for
from soundscape.testing_log import flowing

POLL_S = 30
"""Longer than a busy machine takes to warm a worker's decoders."""
CLIPS = 300


@pytest.fixture(scope="module")
def impatient(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A stack of its own with two live workers, which leave their group after POLL_S seconds without a poll."""
    folder = tmp_path_factory.mktemp("impatient")
    with running_stack(folder, site="test", live_workers="2", rebalance_poll_s=str(POLL_S)) as running:
        yield running


@pytest.mark.slow
def test_the_model_server_is_away_while_workers_join_and_leave(impatient: Stack) -> None:
    """Longer than the poll interval; a second worker joins, the first is told to stop: in the end every clip is answered, once.

    A worker that the outage has left outside its group ends itself and comes back: both share the partitions again.
    """
    stack, supervisor = impatient, Supervisor(impatient.settings)
    supervisor.stop(["analyse-live-1"])
    before = stack.audit()
    first = supervisor.states()["analyse-live-0"]["pid"]
    supervisor.stop(["triton"])
    with flowing(stack.settings, [ogg(5.0, hertz) for hertz in (500.0, 2000.0, 8000.0)], CLIPS, "outage"):
        wait_for(lambda: _says(stack, 0).get("why"), "the first worker to wait")
        supervisor.start(["analyse-live-1"])
        threading.Event().wait(POLL_S * 1.5)  # the outage's length is what is tried
        os.kill(first, signal.SIGTERM)
        wait_for(lambda: supervisor.states()["analyse-live-0"]["pid"] not in (0, first), "another first worker")
        threading.Event().wait(POLL_S)
        assert "Triton" in _says(stack, 0).get("why", "") + _says(stack, 1).get("why", ""), "somebody waits, and says for what"
        supervisor.start(["triton"])
    found = stack.audit()
    assert (found["lost"], found["twice"], found["dead"]) == (0, 0, before["dead"])
    assert found["accepted"] == found["predicted"] == before["accepted"] + CLIPS
    assert wait_for(lambda: _both(stack), "both workers to share the partitions", 180.0) == 16
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
