"""What tests of tours share: their summaries, followed on the log."""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType

from kafka import TopicPartition

from soundscape.events import TourSummed
from soundscape.kafka import new_consumer
from soundscape.settings import Settings
from soundscape.testing import wait_for
from soundscape.topics import TOURS
from soundscape.wire import decode


class Summaries:
    """The latest summary of each tour. A context manager."""

    def __init__(self, settings: Settings) -> None:
        self._consumer = new_consumer(settings)
        parts = [TopicPartition(TOURS.name, n) for n in range(TOURS.partitions)]
        self._consumer.assign(parts)
        self._consumer.seek_to_beginning(*parts)
        self._latest: dict[str, TourSummed] = {}

    def __enter__(self) -> Summaries:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._consumer.close()

    def get(self, tour: str) -> TourSummed | None:
        """As far as has been read by now."""
        for records in self._consumer.poll(50).values():
            for record in records:
                said = decode(TourSummed, record.headers, record.value)
                self._latest[said.tour_id] = said
        return self._latest.get(tour)

    def until(self, tour: str, holds: Callable[[TourSummed], bool], what: str, limit_s: float = 60.0) -> TourSummed:
        """The tour's summary, once it is so."""

        def found() -> TourSummed | None:
            said = self.get(tour)
            return said if said is not None and holds(said) else None

        summed: TourSummed = wait_for(found, what, limit_s)
        return summed
