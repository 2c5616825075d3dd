"""Work on strangers' bytes in child processes: what kills or hangs one kills nothing else."""

from __future__ import annotations

import asyncio
import multiprocessing
import resource
from collections.abc import Callable
from concurrent.futures import TimeoutError as FutureTimeout
from typing import ParamSpec, TypeVar

from pebble import ProcessExpired, ProcessPool

from soundscape.errors import Invalid, Reason

P = ParamSpec("P")
T = TypeVar("T")

LIMIT_S = 30.0
"""Seconds that one clip may take: 3 minutes of sound take about 0.3."""
MEMORY_BYTES = 3 * 1024**3
"""Data segment of one child: 3 minutes at 384 kHz and 16 channels pass through in blocks, far below."""


class ChildPool:
    """A pool of child processes. A child that dies fails its own task only, and is replaced."""

    def __init__(self, children: int, warm_up: Callable[[], object] | None = None) -> None:
        self._pool = ProcessPool(
            max_workers=children, initializer=_enter, initargs=(warm_up,), context=multiprocessing.get_context("spawn")
        )

    async def run(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """The work's result, from a child.

        Raises what the work raises, and Invalid (decoder-died) if the child died, ran out of memory, or took longer than LIMIT_S.
        """
        future = self._pool.schedule(work, args=list(args), kwargs=dict(kwargs), timeout=LIMIT_S)
        try:
            result: T = await asyncio.wrap_future(future)
        except (ProcessExpired, MemoryError) as error:
            raise Invalid(Reason.DECODER_DIED, "The file killed the process that decoded it; it is kept for a look.") from error
        except FutureTimeout as error:
            raise Invalid(Reason.DECODER_DIED, f"The file took longer than {LIMIT_S:.0f} s to decode; it is kept for a look.") from error
        return result

    def close(self) -> None:
        """End the children."""
        self._pool.stop()
        self._pool.join()


def _enter(warm_up: Callable[[], object] | None) -> None:
    resource.setrlimit(resource.RLIMIT_DATA, (MEMORY_BYTES, MEMORY_BYTES))
    if warm_up is not None:
        warm_up()
