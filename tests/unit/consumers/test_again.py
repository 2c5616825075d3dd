"""What was lost is sent again as it lay on the log: its key, its id, its bytes."""

from __future__ import annotations

from typing import Any

import pytest

from consumers import again
from consumers.again import send_lost
from consumers.recount import Log, _accept, tally
from soundscape.clip_reader import ClipReader
from soundscape.settings import Settings
from soundscape.wire import REPLAY_OF, Message


class Lanes:
    """The lanes' records, read by their place through the product's own reader; sent ones are appended."""

    def __init__(self, writer: Any) -> None:
        self.writer = writer
        self.records: dict[tuple[str, int], Any] = {}
        self.sent: list[tuple[str, Message]] = []

    def put(self, record: Any) -> Any:
        """Lay a record down."""
        self.records[record.topic, record.offset] = record
        return record

    def publish(self, producer: object, topic: str, message: Message) -> None:
        """Remember it, and lay it down."""
        self.sent.append((topic, message))
        self.put(self.writer.put(topic, message))

    def recounted(self) -> Log:
        """The lanes as the audit reads them, passed by the workers up to the first record that was sent again."""
        log = Log()
        for record in self.records.values():
            _accept(log, record)
        for topic, _ in self.records:
            log.committed[topic, 0] = self.writer.ends[topic] - sum(one == topic for one, _ in self.sent)
        return log

    # As kafka-python's consumer

    def beginning_offsets(self, parts: list[Any], timeout_ms: int) -> dict[Any, int]:
        return dict.fromkeys(parts, 0)

    def end_offsets(self, parts: list[Any], timeout_ms: int) -> dict[Any, int]:
        return {part: self.writer.ends.get(part.topic, 0) for part in parts}

    def assign(self, parts: list[Any]) -> None:
        (self.part,) = parts

    def seek(self, part: Any, offset: int) -> None:
        self.at = offset

    def poll(self, timeout_ms: int) -> dict[Any, list[Any]]:
        found = self.records.get((self.part.topic, self.at))
        self.at += 1
        return {self.part: [found]} if found else {}

    def position(self, part: Any, timeout_ms: int) -> int:
        return self.at

    def close(self) -> None:
        """Nothing is held."""


@pytest.fixture
def lanes(writer: Any, monkeypatch: pytest.MonkeyPatch) -> Lanes:
    made = Lanes(writer)
    monkeypatch.setattr("soundscape.clip_reader.new_consumer", lambda *_, **__: made)
    monkeypatch.setattr(again, "new_producer", lambda settings: made)
    monkeypatch.setattr(again, "publish", made.publish)
    return made


@pytest.mark.parametrize("lane", ["clips", "recordings"])
def test_a_lost_clip_is_sent_to_its_lane_as_it_lay_there(lanes: Lanes, clip_id: Any, lane: str) -> None:
    """Nobody else's is; it waits then, and is lost no more."""
    for name in ("before", "one", "after"):
        lanes.put(lanes.writer.clip(name, topic=lane))
    came = lanes.records[lane, 1]
    assert send_lost(Settings(), {clip_id("one"): [f"{lane}:0:1"]}) == 1
    assert lanes.sent == [(lane, Message(came.key, came.value, came.headers))]
    assert tally(lanes.recounted()).waiting == (clip_id("one"),)


def test_a_record_that_names_no_clip_is_the_same_one_again(lanes: Lanes) -> None:
    """The audit knows it by the first place it had, also when it is lost a second time."""
    lanes.put(lanes.writer.put("clips", Message(b"k", b"?", [("x", b"y")])))
    for _ in range(2):
        log = lanes.recounted()
        assert set(log.accepted) == {"clips:0:0"}
        assert send_lost(Settings(), log.accepted) == 1
    assert [message.headers for _, message in lanes.sent] == [[("x", b"y"), (REPLAY_OF, b"clips:0:0")]] * 2


def test_what_is_gone_is_looked_for_at_its_other_place_and_then_left(lanes: Lanes, clip_id: Any) -> None:
    lanes.put(lanes.writer.clip("one", topic="clips"))
    lanes.put(lanes.writer.clip("another", topic="recordings"))
    places = ["clips:0:0", "recordings:0:0"]
    assert send_lost(Settings(), {clip_id("one"): places, clip_id("gone"): ["clips:0:0"]}) == 1
    assert [topic for topic, _ in lanes.sent] == ["clips"]


def test_a_clip_on_both_lanes_is_sent_once(lanes: Lanes, clip_id: Any) -> None:
    """To where it came last."""
    for lane in ("clips", "recordings"):
        lanes.put(lanes.writer.clip("one", topic=lane))
    assert send_lost(Settings(), {clip_id("one"): ["clips:0:0", "recordings:0:0"]}) == 1
    assert [topic for topic, _ in lanes.sent] == ["recordings"]


def test_where_nothing_is_lost_nobody_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    def asked(*_: object) -> ClipReader:
        raise AssertionError("the broker was asked")

    monkeypatch.setattr(again, "ClipReader", asked)
    assert send_lost(Settings(), {}) == 0
