"""Much work on strangers' sounds, in a child process a core: a sound that kills one kills nothing else."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TypeVar

from soundscape.errors import Invalid
from soundscape.isolation import ChildPool, surely
from trainer.progress import Counted

K = TypeVar("K")
T = TypeVar("T")

FILES_A_CHILD = 24
"""A child takes some seconds to start, in which it would hear so many files of a minute."""
_WAITING = 2
"""Pieces of work a core whose results may wait to be taken: never all at once."""


def in_children(
    work: Mapping[K, Callable[[], T]],
    take: Callable[[K, T], None],
    refuse: Callable[[K, Invalid], None] | None = None,
    progress: Counted = lambda _n, _of: None,
    children: int | None = None,
    pieces: int = FILES_A_CHILD,
) -> None:
    """Do each piece of work and give `take` its result, or `refuse` the reason why there is none; without `refuse` that is raised.

    In a child a core, or one for each so many `pieces` where that is fewer, or in `children`; 0 is this process. `progress` is told how
    much is done, and of how much.
    """
    if not work:
        return
    cores = len(os.sched_getaffinity(0))
    wish = min(cores, -(-len(work) // pieces)) if children is None else children
    done = 0

    @contextmanager
    def heard(key: K) -> Iterator[None]:
        nonlocal done
        try:
            yield
        except Invalid as error:
            if refuse is None:
                raise
            refuse(key, error)
        done += 1
        progress(done, len(work))

    async def run() -> None:
        pool, gate = ChildPool(wish), asyncio.Semaphore(cores * _WAITING)

        async def one(key: K, piece: Callable[[], T]) -> None:
            async with gate:
                with heard(key):
                    take(key, await surely(pool, piece))

        try:
            await asyncio.gather(*(one(*each) for each in work.items()))
        finally:
            pool.close()

    if wish:
        asyncio.run(run())
        return
    for key, piece in work.items():
        with heard(key):
            take(key, piece())
