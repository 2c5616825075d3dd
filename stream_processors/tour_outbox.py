"""What changed and is not said yet: rows to the changelog, then summaries to `tours`, each as it stands when its turn comes."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from contextlib import suppress
from functools import partial

from soundscape.errors import Unavailable
from soundscape.tour_rows import Changed, Changes
from stream_processors.safe import RETRY_S

PutRow = Callable[[bytes, bytes | None, int], Awaitable[None]]
"""(key, row or None, partition): returns when the changelog has it; raises Unavailable."""
SayTour = Callable[[str], Awaitable[None]]
"""Returns when the tour's summary is published; raises Unavailable."""

Pending = dict[bytes, tuple[Changed, int]]
"""Key -> what the changelog is to say, and in which partition."""


class Outbox:
    """Says what changed, in batches that form by themselves while one is under way: a row that changed twice is written once.

    One batch at a time, so that an older row never overtakes a newer one, not even when it is tried again. Rows that gave something away
    are written when the others of their batch are there.
    """

    def __init__(self, put_row: PutRow, say_tour: SayTour) -> None:
        self._put_row, self._say_tour = put_row, say_tour
        self._rows: Pending = {}
        self._tours: dict[str, None] = {}
        self._turn = asyncio.Lock()
        self._given = self._said = 0
        """Calls of `say` so far, and those of them whose changes are out."""
        self._waits: dict[object, str] = {}

    @property
    def waiting(self) -> str:
        """Why it waits for the broker; empty if it does not."""
        return next(iter(self._waits.values()), "")

    async def say(self, changes: Changes, tours: Iterable[str], partition: int) -> None:
        """Return when these rows, and after them these tours' summaries, are acknowledged, or newer ones are."""
        self._rows = _merged(self._rows, {key: (one, partition) for key, one in changes.items()})
        self._tours |= dict.fromkeys(tours)
        self._given += 1
        mine = self._given
        async with self._turn:
            if self._said < mine:
                await self._batch()

    async def _batch(self) -> None:
        upto, rows, tours = self._given, self._rows, self._tours
        self._rows, self._tours = {}, {}
        try:
            for last in (False, True):
                await _all(self._persist(partial(self._put_row, key, one.row, at)) for key, (one, at) in rows.items() if one.last == last)
            await _all(self._persist(partial(self._say_tour, tour)) for tour in tours)
        except BaseException:  # whoever comes next says it, unless it has changed again
            self._rows, self._tours = _merged(rows, self._rows), tours | self._tours
            raise
        self._said = upto

    async def _persist(self, step: Callable[[], Awaitable[None]]) -> None:
        """Try until the broker has taken it."""
        mine = object()
        try:
            for attempt in range(10**9):
                with suppress(Unavailable):
                    return await step()
                self._waits[mine] = "the broker does not take a tour"
                await asyncio.sleep(RETRY_S[min(attempt, len(RETRY_S) - 1)])
        finally:
            self._waits.pop(mine, None)


def _merged(older: Pending, newer: Pending) -> Pending:
    """Newer rows in the place of older ones; what was to be written last still is."""
    return older | {
        key: (Changed(one.row, one.last or (key in older and older[key][0].last)), partition) for key, (one, partition) in newer.items()
    }


async def _all(steps: Iterable[Coroutine[None, None, None]]) -> None:
    """All at once; the first error ends the others."""
    tasks = [asyncio.create_task(step) for step in steps]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
