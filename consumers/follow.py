"""Whole topics read without a group, from positions that the reader keeps beside its own effects."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from types import TracebackType
from typing import Any, TypeVar

from kafka import TopicPartition

from soundscape.errors import Invalid, Unavailable
from soundscape.events import Event
from soundscape.kafka import broker_errors, new_consumer
from soundscape.logs import passed_over
from soundscape.metrics import CONSUMER_LAG, UNREADABLE
from soundscape.settings import Settings
from soundscape.topics import Topic
from soundscape.wire import decode

E = TypeVar("E", bound=Event)
log = logging.getLogger(__name__)

POLL_MS = 500
"""Longest wait for records; what has arrived is handed over at once."""
GATHER_MS = 250
"""How long the broker gathers records before it answers a reader, short of GATHER_BYTES: one that were woken by each clip would take its
turn on the cores just while the guide waits for the answer."""
GATHER_BYTES = 1_000_000
"""A reader that is behind is never made to wait."""
MEASURE_S = 2.0
"""Seconds between two looks at the topics' ends: lag, and whether the broker still answers."""
SILENCE_S = 15.0
"""Seconds without an answer of the broker after which a reader calls itself unhealthy."""
RETRY_S = 1.0
"""Seconds between two tries while the broker or a store is away."""


class Follower:
    """A reader of all partitions of some topics. Positions are `topic:partition` -> next offset. A context manager."""

    def __init__(self, settings: Settings, process: str, topics: Iterable[Topic]) -> None:
        """Raises Unavailable while the broker is away or a topic is not there yet."""
        self.process = process
        self._consumer = new_consumer(settings, client_id=process, fetch_max_wait_ms=GATHER_MS, fetch_min_bytes=GATHER_BYTES)
        self._measured_at = 0.0
        with broker_errors():
            self.parts = [
                TopicPartition(topic.name, n) for topic in topics for n in sorted(self._consumer.partitions_for_topic(topic.name))
            ]
            if missing := {topic.name for topic in topics} - {part.topic for part in self.parts}:
                self._consumer.close()
                raise Unavailable(f"Topic {min(missing)} is not there yet; `soundscape topics apply` makes it.")
            self._consumer.assign(self.parts)

    def __enter__(self) -> Follower:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._consumer.close()

    def seek(self, positions: Mapping[str, int]) -> None:
        """Go on from these positions, and from the beginning where there is none. Raises Unavailable."""
        with broker_errors():
            for part in self.parts:
                name = part_name(part)
                if name in positions:
                    self._consumer.seek(part, positions[name])
                else:
                    self._consumer.seek_to_beginning(part)

    def batches(self) -> Iterator[tuple[str, list[Any]]]:
        """What is there now, as (`topic:partition`, its records in order). Raises Unavailable."""
        with broker_errors():
            polled = self._consumer.poll(POLL_MS)
        for part, records in polled.items():
            yield part_name(part), records

    def measure(self) -> dict[str, int] | None:
        """Records not yet read by topic, every MEASURE_S, else None; sets the gauge. Raises Unavailable if the broker is away."""
        if time.monotonic() < self._measured_at + MEASURE_S:
            return None
        with broker_errors():
            ends = self._consumer.end_offsets(self.parts, timeout_ms=10_000)
            lag = dict.fromkeys(sorted({part.topic for part in self.parts}), 0)
            for part, end in ends.items():
                lag[part.topic] += max(0, end - (self._consumer.position(part, timeout_ms=10_000) or 0))
        for topic, records in lag.items():
            CONSUMER_LAG.labels(self.process, topic).set(records)
        self._measured_at = time.monotonic()
        return lag


class Pulse:
    """What `/healthz` says of a reader: healthy while the broker and its store answered lately and the lag is known."""

    def __init__(self) -> None:
        self._why = "It has not reached the broker yet."
        self._lag: dict[str, int] = {}
        self._at = float("-inf")

    def beat(self, lag: dict[str, int]) -> None:
        """All is well."""
        self._lag, self._at, self._why = lag, time.monotonic(), ""

    def fail(self, why: str) -> None:
        """Something is away, or stands still; logged once for as long as it stays so."""
        if why != self._why:
            log.warning("%s", why)
        self._why, self._at = why, float("-inf")

    def __call__(self) -> dict[str, Any]:
        healthy = time.monotonic() < self._at + SILENCE_S
        return {"healthy": healthy, "why": self._why or ("" if healthy else "It has stood still for too long."), "lag": self._lag}


def persist(run: Callable[[], object], pulse: Pulse) -> None:
    """Run for ever what ends only by Unavailable: say why, wait, begin again from the stored positions."""
    while True:
        try:
            run()
        except Unavailable as error:
            pulse.fail(f"{error} Trying again every {RETRY_S:g} s.")
            time.sleep(RETRY_S)


def part_name(part: TopicPartition) -> str:
    """`topic:partition`."""
    return f"{part.topic}:{part.partition}"


def read(process: str, kind: type[E], record: Any) -> E | None:
    """The event of a Kafka record; None, a log line and a count where it does not decode (its dead letter says why)."""
    try:
        return decode(kind, record.headers, record.value)
    except Invalid as error:
        passed_over(log, record, error)
        UNREADABLE.labels(process, record.topic).inc()
        return None
