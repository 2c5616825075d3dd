"""A clip by its place: found, gone, or another one by now."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import pytest
from kafka import TopicPartition
from kafka.errors import KafkaTimeoutError

from soundscape.clip_reader import ClipReader
from soundscape.errors import Unavailable
from soundscape.events import ClipAnalysed, Event, Place, Stages
from soundscape.settings import Settings
from soundscape.testing_log import clip
from soundscape.wire import encode

PLACE = Place(topic="clips", partition=3, offset=7)


@dataclass
class Record:
    """What a consumer hands over."""

    offset: int
    headers: list[tuple[str, bytes]]
    value: bytes


@dataclass
class Broker:
    """A partition in memory, spoken to as to kafka-python's consumer (the real one: tests/integration/test_sampling.py)."""

    records: list[Record] = field(default_factory=list)
    first: int = 0
    end: int = 0
    away: bool = False
    at: int = 0

    def put(self, offset: int, event: Event) -> None:
        """Lay a clip at an offset."""
        sent = encode(event)
        self.records.append(Record(offset, sent.headers, sent.value))
        self.end = offset + 1

    def beginning_offsets(self, parts: list[TopicPartition], timeout_ms: int) -> dict[TopicPartition, int]:
        if self.away:
            raise KafkaTimeoutError("no broker")
        return dict.fromkeys(parts, self.first)

    def end_offsets(self, parts: list[TopicPartition], timeout_ms: int) -> dict[TopicPartition, int]:
        return dict.fromkeys(parts, self.end)

    def assign(self, parts: list[TopicPartition]) -> None:
        self.parts = parts

    def seek(self, part: TopicPartition, offset: int) -> None:
        self.at = offset

    def poll(self, timeout_ms: int) -> dict[TopicPartition, list[Record]]:
        found = [record for record in self.records if record.offset >= self.at][:1]
        self.at = found[0].offset + 1 if found else self.end
        return dict.fromkeys(self.parts, found) if found else {}

    def position(self, part: TopicPartition, timeout_ms: int) -> int:
        return self.at

    def close(self) -> None:
        """Nothing is held."""


@pytest.fixture
def broker(monkeypatch: pytest.MonkeyPatch) -> Broker:
    made = Broker()
    monkeypatch.setattr("soundscape.clip_reader.new_consumer", lambda *_, **__: made)
    return made


@pytest.fixture
def reader(broker: Broker) -> Iterator[ClipReader]:
    with ClipReader(Settings()) as made:
        yield made


def test_the_clip_that_lies_there(broker: Broker, reader: ClipReader) -> None:
    meant = clip(b"OggS sound")
    broker.put(7, meant)
    assert reader.read(PLACE, meant.clip_id) == meant
    assert reader.read(PLACE, str(meant.clip_id)) == meant, "an id as text is the same id"


def test_the_answer_that_lies_there(broker: Broker, reader: ClipReader) -> None:
    """On its own topic, found by the same id; a clip is no answer."""
    now, of = datetime.now(UTC), clip(b"OggS sound")
    said = ClipAnalysed(
        clip_id=of.clip_id, stream="tour-1", site="test", place=PLACE, release="r1", release_digest="0" * 64, generation=1,
        feature_fingerprints=(), labels=(), windows=(), detections=(),
        stages=Stages(published=now, received=now, decoded=now, features=now, inferred=now, predicted=now),
    )  # fmt: skip
    broker.put(7, said)
    there = PLACE.model_copy(update={"topic": "predictions"})
    assert reader.answer(there, of.clip_id) == said
    assert reader.answer(there, uuid4()) is None
    assert reader.answer(PLACE, of.clip_id) is None
    assert reader.read(there, of.clip_id) is None


def test_another_clip_lies_there_by_now(broker: Broker, reader: ClipReader) -> None:
    """The topic was made anew: the offset holds a clip, and it is not ours."""
    broker.put(7, clip(b"OggS other"))
    assert reader.read(PLACE, clip(b"OggS sound").clip_id) is None


@pytest.mark.parametrize(("first", "end"), [(8, 20), (0, 7)], ids=["retention has taken it", "the topic is shorter than that"])
def test_the_record_is_gone(broker: Broker, reader: ClipReader, first: int, end: int) -> None:
    meant = clip(b"OggS sound")
    broker.put(7, meant)
    broker.first, broker.end = first, end
    assert reader.read(PLACE, meant.clip_id) is None


@pytest.mark.parametrize("beyond", [9, None], ids=["the next record comes instead", "a gap up to the end"])
def test_retention_takes_it_while_it_is_read(broker: Broker, reader: ClipReader, beyond: int | None) -> None:
    again = clip(b"OggS sound")
    if beyond is not None:
        broker.put(beyond, again)
    broker.end = 10
    assert reader.read(PLACE, again.clip_id) is None, "what lies at another place is not what was asked for"


@pytest.mark.parametrize("changes", [{"topic": "labels"}, {"topic": "no-topic"}, {"partition": 16}])
def test_a_place_where_no_clip_can_lie_is_never_asked_for(broker: Broker, reader: ClipReader, changes: dict[str, Any]) -> None:
    broker.away = True
    assert reader.read(PLACE.model_copy(update=changes), uuid4()) is None


def test_a_record_that_is_no_clip(broker: Broker, reader: ClipReader) -> None:
    """It has the right id and the wrong type; nobody can hear it."""
    meant = clip(b"OggS sound")
    broker.put(7, meant)
    broker.records[0].headers = [(name, item) for name, item in broker.records[0].headers if name != "ce_type"]
    assert reader.read(PLACE, meant.clip_id) is None


def test_a_broker_that_is_away_is_no_clip_that_is_gone(broker: Broker, reader: ClipReader) -> None:
    broker.away = True
    with pytest.raises(Unavailable):
        reader.read(PLACE, uuid4())
