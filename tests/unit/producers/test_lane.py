"""The bulk lane's room: asked of the workers' own group, now and then, and of the disk each time."""

from __future__ import annotations

from pathlib import Path

import pytest

from producers import lane as module
from producers.lane import LOOK_S, Lane
from soundscape.settings import Settings
from soundscape.topics import RECORDINGS, Topic


class Broker:
    """Answers how many records wait, and closes."""

    def __init__(self) -> None:
        self.waiting = 0
        self.asked: list[tuple[str, str]] = []
        self.closed = False

    def backlog(self, admin: object, topic: Topic, group: str) -> int:
        assert admin is self
        self.asked.append((topic.name, group))
        return self.waiting

    def close(self) -> None:
        self.closed = True


@pytest.fixture
def broker(monkeypatch: pytest.MonkeyPatch) -> Broker:
    made = Broker()
    monkeypatch.setattr(module, "new_admin", lambda settings: made)
    monkeypatch.setattr(module, "backlog", made.backlog)
    monkeypatch.setattr(module, "lack_of_room", lambda settings: "")
    return made


def lane_of(tmp_path: Path) -> Lane:
    return Lane(Settings(data_dir=tmp_path, max_backlog_clips=2))


def test_the_group_is_that_of_the_lanes_workers(tmp_path: Path, broker: Broker, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever it is called: the backlog of another group says nothing."""
    monkeypatch.setattr(module, "group_of", lambda lane: f"workers of {lane}")
    assert lane_of(tmp_path).has_room()
    assert broker.asked == [(RECORDINGS.name, "workers of bulk")]


def test_what_was_sent_since_counts_and_the_broker_is_asked_now_and_then(
    tmp_path: Path, broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [100.0]
    monkeypatch.setattr("producers.lane.time.monotonic", lambda: now[0])
    broker.waiting, lane = 1, lane_of(tmp_path)
    assert lane.has_room()
    lane.sent()
    assert not lane.has_room() and "backlog" in lane.why
    broker.waiting = 0
    assert not lane.has_room() and len(broker.asked) == 1
    now[0] += LOOK_S + 1
    assert lane.has_room() and lane.why == "" and len(broker.asked) == 2


def test_a_full_disk_has_no_room(tmp_path: Path, broker: Broker, monkeypatch: pytest.MonkeyPatch) -> None:
    lane = lane_of(tmp_path)
    assert lane.has_room()
    monkeypatch.setattr(module, "lack_of_room", lambda settings: "The disk is full.")
    assert not lane.has_room() and lane.why == "The disk is full."
    lane.close()
    assert broker.closed
