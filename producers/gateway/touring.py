"""The tours as the gateway knows them: who started which, what each has heard so far, and who watches."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

from fastapi.sse import KEEPALIVE_COMMENT, format_sse_event
from pydantic import ValidationError

from producers.gateway.problems import Problem
from producers.gateway.shelf import Item, Reads, Shelf
from producers.gateway.standing import read
from soundscape.errors import Unavailable
from soundscape.events import Place, TourMoved, TourSummed
from soundscape.topics import TOURS
from soundscape.wire import PREFIX, texts

TOURS_KEPT = 100_000
"""Tours of which the start is known; the oldest is forgotten first, about 1 KB each."""
WATCHERS = 500
"""Open connections for tours' summaries."""
PACE_S = 1.0
"""Seconds between two summaries of one connection, at least."""
QUIET_S = 15.0
"""Seconds without a summary after which a connection carries a comment, so that nobody between closes it."""


class Started(NamedTuple):
    """A tour that a key started, and its end, once there is one."""

    start: TourMoved
    end: TourMoved | None
    place: Place


class Summary(NamedTuple):
    """A tour's newest summary. `event_id` is `partition-offset` of its record; None while the tour has only been started."""

    event_id: str | None
    summed: TourSummed
    body: str


class Tours:
    """Fed by Followers of `tour-events` and `tours` from their beginning. Used from one event loop."""

    def __init__(self, kept: int = TOURS_KEPT) -> None:
        self._kept = kept
        self._started: OrderedDict[str, Started] = OrderedDict()
        self._summaries: Shelf[None] = Shelf(TOURS.name)
        self._news: dict[str, set[asyncio.Event]] = {}
        self._closing = asyncio.Event()
        self.watchers = 0

    def moved(self, record: Any) -> None:
        """Take in one record of `tour-events`."""
        if (event := read(TourMoved, record)) is not None:
            self.took(event, Place(topic=record.topic, partition=record.partition, offset=record.offset))

    def took(self, event: TourMoved, place: Place) -> None:
        """The event lies at the place. An end without its start, and another key's word on a tour, change nothing."""
        known = self._started.get(event.tour_id)
        if known is not None and (event.by != known.start.by or place.offset < known.place.offset):  # one tour, one partition
            return
        if event.what == "started":
            self._started[event.tour_id] = Started(event, known.end if known else None, place)
        elif known is not None:
            self._started[event.tour_id] = known._replace(end=event, place=place)
        while len(self._started) > self._kept:
            self._started.popitem(last=False)
        self._tell(event.tour_id)

    def summed(self, record: Any) -> None:
        """Take in one record of `tours`; it is opened only when somebody asks."""
        if record.key is None or (record.value is not None and texts(record.headers).get(PREFIX + "type") != TourSummed.TYPE):
            return
        tour_id = record.key.decode(errors="replace")
        if record.value is None:
            self._summaries.drop(tour_id)
        else:
            self._summaries.put(tour_id, Item(record.partition, record.offset, "", None), record.value)
        self._tell(tour_id)

    def started(self, tour_id: str) -> Started | None:
        """The tour of that name, if a key started it."""
        return self._started.get(tour_id)

    async def newest(self, tour_id: str, log: Reads) -> Summary | None:
        """The tour's newest summary, an empty one for a tour just started; None if nobody knows it. Raises Unavailable."""
        item = self._summaries.get(tour_id)
        body = await self._summaries.read(tour_id, log)
        if item is not None and body is not None:
            try:
                summed = TourSummed.model_validate_json(body)
            except ValidationError:  # of a later version, or the topic was made anew
                summed = None
            if summed is not None and summed.tour_id == tour_id:
                item = self._summaries.get(tour_id) or item
                return Summary(f"{item.partition}-{item.offset}", summed, body.decode())
        known = self._started.get(tour_id)
        if known is None:
            return None
        empty = _empty(known)
        return Summary(None, empty, empty.model_dump_json())

    @contextmanager
    def connection(self) -> Iterator[None]:
        """One of the open connections. Raises Problem (503) where there are too many."""
        if self.watchers >= WATCHERS:
            raise Problem(503, "busy", f"{WATCHERS} connections follow tours already; ask GET /v1/tours/ID, or come back later.")
        self.watchers += 1
        try:
            yield
        finally:
            self.watchers -= 1

    async def watch(self, tour_id: str, log: Reads, allowed: Callable[[], bool]) -> AsyncIterator[bytes]:
        """Server-sent events of a tour's whole summaries: the newest at once, then at most one every PACE_S, whatever was between.

        Ends when the process does, or when the watcher is no longer `allowed`.
        """
        news = asyncio.Event()
        told: tuple[str | None, str] = (None, "")
        self._news.setdefault(tour_id, set()).add(news)
        try:
            while allowed() and not self._closing.is_set():
                news.clear()
                summary = await self._latest(tour_id, log)
                if summary is not None and (summary.event_id, summary.body) != told:
                    yield format_sse_event(data_str=summary.body, id=summary.event_id)
                    told = summary.event_id, summary.body
                    await _within(self._closing, PACE_S)
                elif not await _within(news, QUIET_S):
                    yield KEEPALIVE_COMMENT
        finally:
            self._news[tour_id].discard(news)
            if not self._news[tour_id]:
                del self._news[tour_id]

    def release(self) -> None:
        """The process ends: every connection is closed."""
        self._closing.set()
        for tour_id in list(self._news):
            self._tell(tour_id)

    async def _latest(self, tour_id: str, log: Reads) -> Summary | None:
        try:
            return await self.newest(tour_id, log)
        except Unavailable:  # the next one comes without the log's older part
            return None

    def _tell(self, tour_id: str) -> None:
        for news in self._news.get(tour_id, ()):
            news.set()


async def _within(event: asyncio.Event, seconds: float) -> bool:
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        return False
    return True


def _empty(known: Started) -> TourSummed:
    """What a tour has heard that was started and has no clip yet."""
    start, end = known.start, known.end
    return TourSummed(
        tour_id=start.tour_id,
        site=start.site,
        species=(),
        clips=0,
        at=(end or start).at,
        stream=start.tour_id,
        started_at=start.at,
        ended_at=end.at if end else None,
        rating=end.rating if end else None,
        note=end.note if end else None,
        by=start.by,
    )
