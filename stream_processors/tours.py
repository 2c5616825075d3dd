"""`python -m stream_processors.tours`: sums each tour, and each day of a recorder, as answers, judgements and moves come."""

from __future__ import annotations

import asyncio
import logging
import time
from datetime import UTC, datetime
from typing import Any

from aiokafka.errors import KafkaError

from soundscape.errors import Broken, Invalid, Unavailable
from soundscape.events import FeedbackGiven, Place
from soundscape.metrics import FEEDBACK_SECONDS, TOURS_OPEN, TOURS_PASSED_OVER, TOURS_SUMMED, UNREADABLE
from soundscape.settings import Port, Settings
from soundscape.taxonomy import Species
from soundscape.topics import FEEDBACK, LABELS, PREDICTIONS, TOUR_EVENTS, TOUR_ROWS, TOURS
from soundscape.tour_rows import KINDS, Changes, Rows, TourEvent, key_parts
from soundscape.tours import HEAD, summary
from soundscape.wire import Headers, decode, encode
from stream_processors.frame import StreamProcess, run
from stream_processors.sites import Sites
from stream_processors.tour_outbox import Outbox

log = logging.getLogger(__name__)

GROUP = "tours"
TOPICS = (TOUR_EVENTS, PREDICTIONS, FEEDBACK, LABELS)
DAY_S = 86_400.0
SWEEP_S = 3600.0
"""Seconds between two looks for tours whose rows are to be dropped."""
ROWS_PATH = "/rows/"
TELL_TRIES = 20


class Tours(StreamProcess):
    """The rows of all tours as a Faust table, rebuilt from its changelog; a record is done when its summary is acknowledged.

    Rows are written to the changelog here, not by the table: Faust gives up a row that the broker does not take, without a word.
    """

    def __init__(self, settings: Settings) -> None:
        self._sites = Sites(settings, GROUP)
        self._names: tuple[str, dict[str, Species]] = ("", {})
        self._recovered = False
        self._open: set[str] = set()
        self._outbox: Outbox | None = None
        super().__init__(GROUP, f"{GROUP}-0", settings.port(Port.TOURS), TOPICS, settings)
        self._table = self.app.Table("rows", partitions=TOUR_ROWS.partitions, key_type=bytes, on_recover=self._recover)
        self._rows = Rows(self._table.data)

    async def handle(self, place: Place, key: bytes | None, headers: Headers, value: bytes | None) -> None:
        """Take one record in. What does not decode, or no row takes, is counted and passed over."""
        await self._sites.ready.wait()
        try:
            event = decode(KINDS[place.topic], headers, value)
        except Invalid as error:
            UNREADABLE.labels(self.name, place.topic).inc()
            log.warning("%s passed over: %s", place, error)
            return
        changes = self._taken(event, place)
        await self._say(changes, place.partition)
        if isinstance(event, FeedbackGiven) and changes:
            FEEDBACK_SECONDS.observe(max(0.0, time.time() - event.given_at.timestamp()))

    def _taken(self, event: TourEvent, place: Place) -> Changes:
        try:
            return self._rows.apply(event, place.offset, time.time() - self.settings.tour_days * DAY_S)
        except Exception as error:  # what escapes here would be acknowledged without a word
            TOURS_PASSED_OVER.labels(place.topic).inc()
            log.warning("%s passed over: %s", place, error, exc_info=None if isinstance(error, Invalid) else error)
            return {}

    async def _say(self, changes: Changes, partition: int) -> None:
        if self._outbox is None:  # made here, inside the running loop
            self._outbox = Outbox(self._put_row, self._say_tour)
        if changes:
            try:
                await self._outbox.say(changes, dict.fromkeys(key_parts(key)[0] for key in changes), partition)
            except Exception as error:
                raise Broken(f"A tour cannot be said ({error!r}); the record is read again.") from error

    async def _put_row(self, key: bytes, row: bytes | None, partition: int) -> None:
        """Write a row to the table's changelog, in the partition of its stream. Raises Unavailable."""
        try:
            await self.app.producer.send_and_wait(TOUR_ROWS.name, key, row, partition, None, None)
        except (KafkaError, OSError) as error:
            raise Unavailable(f"the broker does not take the row ({type(error).__name__})") from error

    async def _say_tour(self, tour: str) -> None:
        """Publish a tour as its rows have it now. Raises Unavailable; what cannot be said is passed over, since others wait for it."""
        rows = self._rows.of(tour)
        try:
            said = summary(tour, rows, self.species_of, datetime.now(UTC))
            if said is not None:
                await self.publish(TOURS.name, encode(said))
        except Unavailable:
            raise
        except Exception:
            TOURS_PASSED_OVER.labels(TOURS.name).inc()
            log.exception("tour %s cannot be said", tour)
            return
        if said is not None:
            TOURS_SUMMED.labels(said.site).inc()
            self._count_open(tour, rows[HEAD]["moves"].keys())

    def _count_open(self, tour: str, moves: object) -> None:
        (self._open.add if moves == {"started"} else self._open.discard)(tour)
        TOURS_OPEN.set(len(self._open))

    def species_of(self, site: str, label: str) -> Species | None:
        """The species of a label by the site's champion."""
        loaded = self._sites.champion(site)
        if loaded is None:
            return None
        if self._names[0] != loaded.digest:
            self._names = loaded.digest, {one.label: one for one in loaded.release.labels}
        return self._names[1].get(label)

    def tell(self, path: str) -> dict[str, Any] | None:
        """The rows of a tour by label, at `/rows/TOUR`; None where it has none.

        The event loop may put in a new row meanwhile: rows are replaced whole, so what is told is at most a moment old.
        """
        if not path.startswith(ROWS_PATH) or not self._recovered:
            return None
        for _ in range(TELL_TRIES):
            try:
                return self._rows.of(path.removeprefix(ROWS_PATH)) or None
            except (KeyError, RuntimeError):  # a row came or went while they were gathered
                continue
        return None

    async def prepare(self) -> None:
        """Follow the deployments, for the names of species, and drop old rows."""
        await asyncio.gather(self._sites.follow(), self._sweep())

    async def _recover(self) -> None:
        """The table holds what its changelog says.

        The flow, on for the recovery, is stopped here; Faust resumes it in a moment. It forgets what it has read when it does, and
        between seeking to the committed offsets and that moment records were read (seen: 11 of 45 clips lost after a kill -9).
        """
        self.app.consumer.stop_flow()
        self._rows.index()
        for tour in self._rows.tours():
            self._count_open(tour, self._rows.of(tour).get(HEAD, {"moves": {}})["moves"].keys())
        self._recovered = True

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(SWEEP_S)
            if not self.app.rebalancing:
                await self.drop_old(time.time())

    async def drop_old(self, now: float) -> None:
        """Drop the rows of tours of which nothing has come for `tour_days`; their last summaries stay."""
        since = now - self.settings.tour_days * DAY_S
        for tour in self._rows.tours():
            head = self._rows.of(tour).get(HEAD)
            if head is not None and head["news"] < since:
                partition = self.app.producer.key_partition(TOUR_ROWS.name, head["stream"].encode()).partition
                self._count_open(tour, ())
                await self._say(self._rows.drop(tour), partition)

    def waiting(self) -> str:
        """Why records wait."""
        return self._outbox.waiting if self._outbox else ""

    def not_yet(self) -> dict[str, bool]:
        """The deployments, and what an earlier life of this process has left."""
        return {"reading deployments": not self._sites.ready.is_set(), "recovering rows": not self._recovered}


if __name__ == "__main__":
    run(Tours, TOPICS)
