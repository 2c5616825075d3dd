"""A clip's sound, fetched from the log by its place; it counts only if the clip that lies there is the one that was meant."""

from __future__ import annotations

import time
from threading import Lock
from types import TracebackType
from typing import Any
from uuid import UUID

from kafka import TopicPartition

from soundscape.errors import Invalid, Unavailable
from soundscape.events import ClipRecorded, Place
from soundscape.kafka import LIMIT_S, broker_errors, new_consumer
from soundscape.settings import Settings
from soundscape.topics import LANES
from soundscape.wire import PREFIX, decode, texts

TOPICS = {topic.name: topic for topic in LANES.values()}
"""The topics on which clips lie."""
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
        topic = TOPICS.get(place.topic)
        if topic is None or place.partition >= topic.partitions:
            return None
        with self._lock, broker_errors():
            record = self._record(TopicPartition(place.topic, place.partition), place.offset)
        if record is None or texts(record.headers).get(PREFIX + "id") != str(clip_id):
            return None
        try:
            return decode(ClipRecorded, record.headers, record.value)
        except Invalid:  # what does not decode became a dead letter; nobody can hear it
            return None

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
