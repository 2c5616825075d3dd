"""A clip, or its answer, fetched from the log by its place; it counts only if what lies there is of the clip that was meant."""

from __future__ import annotations

import time
from threading import Lock
from types import TracebackType
from typing import Any, TypeVar
from uuid import UUID

from kafka import TopicPartition

from soundscape.errors import Invalid, Unavailable
from soundscape.events import ClipAnalysed, ClipRecorded, Event, Place
from soundscape.kafka import LIMIT_S, broker_errors, new_consumer
from soundscape.settings import Settings
from soundscape.topics import LANES, PREDICTIONS, SHADOW_PREDICTIONS, Topic
from soundscape.wire import PREFIX, decode, identity, texts

E = TypeVar("E", bound=Event)

SOUNDS = {topic.name: topic for topic in LANES.values()}
"""The topics on which clips lie, by name."""
ANSWERS = {topic.name: topic for topic in (PREDICTIONS, SHADOW_PREDICTIONS)}
"""The topics on which their answers lie."""
POLL_MS = 500


class ClipReader:
    """Reads single clips by their place. A context manager; several threads may share one, and are served one after the other."""

    def __init__(self, settings: Settings) -> None:
        """Raises Unavailable without a broker."""
        self._consumer = new_consumer(settings, max_poll_records=1)  # one by one: what was fetched beyond is kept, not fetched again
        self._lock = Lock()

    def __enter__(self) -> ClipReader:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection."""
        with self._lock:
            self._consumer.close()

    def read(self, place: Place, clip_id: str | UUID) -> ClipRecorded | None:
        """The clip that lies at the place.

        None if it is gone: retention has taken the record, the place is none of a lane, or another clip lies there now (the topic was
        made anew). Raises Unavailable.
        """
        return self._read(SOUNDS, "id", ClipRecorded, place, clip_id)

    def answer(self, place: Place, clip_id: str | UUID) -> ClipAnalysed | None:
        """The answer that lies at the place, with the same words: None if it is gone or another clip's. Raises Unavailable."""
        return self._read(ANSWERS, "clipid", ClipAnalysed, place, clip_id)

    def record(self, place: Place, clip_id: str) -> Any:
        """The record of a lane as it lies at the place, decoded or not; None if it is gone or of another clip. Raises Unavailable."""
        record = self._at(SOUNDS, place)
        return record if record is not None and identity(texts(record.headers), place) == clip_id else None

    def _read(self, topics: dict[str, Topic], named: str, kind: type[E], place: Place, clip_id: str | UUID) -> E | None:
        record = self._at(topics, place)
        if record is None or texts(record.headers).get(PREFIX + named) != str(clip_id):
            return None
        try:
            return decode(kind, record.headers, record.value)
        except Invalid:  # a clip that does not decode became a dead letter; nobody can hear it
            return None

    def _at(self, topics: dict[str, Topic], place: Place) -> Any:
        topic = topics.get(place.topic)
        if topic is None or place.partition >= topic.partitions:
            return None
        with self._lock, broker_errors():
            return self._record(TopicPartition(place.topic, place.partition), place.offset)

    def _record(self, part: TopicPartition, offset: int) -> Any:
        """The record at an offset; None if there is none. Raises KafkaError, Unavailable."""
        millis = LIMIT_S * 1000
        first = self._consumer.beginning_offsets([part], timeout_ms=millis)[part]
        end = self._consumer.end_offsets([part], timeout_ms=millis)[part]
        if not first <= offset < end:
            return None
        self._consumer.assign([part])
        self._consumer.seek(part, offset)
        deadline = time.monotonic() + LIMIT_S
        while time.monotonic() < deadline:
            for record in self._consumer.poll(POLL_MS).get(part, []):
                return record if record.offset == offset else None  # retention was faster: the next record came
            if (self._consumer.position(part, timeout_ms=millis) or 0) > offset:
                return None  # only a gap
        raise Unavailable(f"The broker did not send {part.topic}:{part.partition}:{offset} within {LIMIT_S} s.")
