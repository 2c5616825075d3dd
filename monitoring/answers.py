"""The predictions of one benchmark as they come, read without a group from the end."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterable
from contextlib import suppress
from itertools import pairwise
from typing import Any

from kafka import TopicPartition

from soundscape.errors import Invalid, Unavailable
from soundscape.events import ClipAnalysed
from soundscape.kafka import broker_errors, new_consumer
from soundscape.settings import Settings
from soundscape.topics import PREDICTIONS, Topic
from soundscape.wire import decode

STAGES = ("published", "received", "decoded", "features", "inferred", "predicted")


class Answers:
    """Predictions published from now on (or the shadow's); each with the time at which its record was written."""

    def __init__(self, settings: Settings, topic: Topic = PREDICTIONS) -> None:
        self._consumer: Any = new_consumer(settings)
        with broker_errors():
            parts = [TopicPartition(topic.name, n) for n in range(topic.partitions)]
            self._consumer.assign(parts)
            self._consumer.seek_to_end(*parts)
            for part in parts:
                self._consumer.position(part)
        self.found: dict[str, tuple[ClipAnalysed, float]] = {}

    def read(self, timeout_ms: int = 100) -> None:
        """Take what has come, without what does not decode."""
        with broker_errors():
            for records in self._consumer.poll(timeout_ms).values():
                for record in records:
                    with suppress(Invalid):
                        event = decode(ClipAnalysed, record.headers, record.value)
                        self.found[str(event.clip_id)] = (event, record.timestamp / 1000)

    def wait(self, wanted: set[str], limit_s: float) -> None:
        """Read until all of these are answered. Raises Unavailable if that takes longer than the limit."""
        deadline = time.monotonic() + limit_s
        while missing := wanted - self.found.keys():
            if time.monotonic() > deadline:
                what = f"{len(missing)} of {len(wanted)} clips were not answered within {limit_s:.0f} s"
                raise Unavailable(f"{what}; `soundscape deadletters list` shows those that died.")
            self.read()

    def close(self) -> None:
        """Close the consumer."""
        self._consumer.close()


def stage_medians(events: Iterable[ClipAnalysed]) -> dict[str, float]:
    """Median milliseconds of each stage, by the stage that ends it."""
    events = list(events)
    if not events:
        return {}
    return {
        after: round(statistics.median((getattr(e.stages, after) - getattr(e.stages, before)).total_seconds() * 1000 for e in events), 2)
        for before, after in pairwise(STAGES)
    }
