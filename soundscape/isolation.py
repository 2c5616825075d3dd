"""Work on strangers' bytes in child processes: what kills or hangs one kills nothing else."""

from __future__ import annotations

import asyncio
import mmap
import multiprocessing
import os
import pickle
import resource
from collections.abc import Callable
from concurrent.futures import BrokenExecutor
from concurrent.futures import TimeoutError as FutureTimeout
from contextlib import suppress
from functools import partial
from pathlib import Path
from threading import Thread
from typing import Any, ParamSpec, Protocol, TypeVar

from pebble import ProcessExpired, ProcessPool

from soundscape.errors import Invalid, Reason

P = ParamSpec("P")
T = TypeVar("T")

LIMIT_S = 30.0
"""Seconds that one clip may take: 3 minutes of sound take about 0.3."""
MEMORY_BYTES = 3 * 1024**3
"""Data segment of one child: 3 minutes at 384 kHz and 16 channels pass through in blocks, far below."""


TICK_S = 1.0
"""Seconds between two looks whether the child that works on a task is still there."""
DEATHS = 3
"""Children that may die of a task before it is blamed."""
STARTS = 3
"""Children that may die idle, one after the other, before their task is blamed."""


class ChildPool:
    """A pool of child processes. A child that dies fails its own task only, and is replaced.

    Each child is a pool of its own: in pebble's, children share locks, and one killed while it waits for work (as when the kernel
    runs out of memory) leaves the others waiting for ever, or spoils the pool.
    """

    def __init__(self, children: int, warm_up: Callable[[], object] | None = None) -> None:
        self._warm_up = warm_up
        self._free: asyncio.Queue[ProcessPool] = asyncio.Queue()
        self._all: set[ProcessPool] = set()
        for _ in range(children):
            self._free.put_nowait(self._new())

    async def run(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """The work's result, from a child.

        Raises what the work raises, and Invalid (decoder-died) if the child died, ran out of memory, or took longer than LIMIT_S.
        """
        for _ in range(STARTS):
            pool = await self._free.get()
            try:
                if not pool.active:  # its child was killed while it had nothing to do
                    pool = self._replaced(pool)
                result: T = await _lent(pool, partial(work, *args, **kwargs))
            except BrokenExecutor:  # killed before it began
                pool = self._replaced(pool)
            except ProcessExpired as error:
                pool = self._replaced(pool)
                raise Invalid(Reason.DECODER_DIED, "The file killed the process that decoded it; convert it, and send it again.") from error
            except MemoryError as error:
                raise Invalid(Reason.DECODER_DIED, "The file took all the memory of its decoder; convert it, and send it again.") from error
            except FutureTimeout as error:
                what = f"The file took longer than {LIMIT_S:.0f} s to decode; convert it, and send it again."
                raise Invalid(Reason.DECODER_DIED, what) from error
            else:
                return result
            finally:
                self._free.put_nowait(pool)
        raise Invalid(Reason.DECODER_DIED, f"{STARTS} decoders were killed before they could begin; the clip is kept.")

    def close(self) -> None:
        """End the children."""
        for pool in self._all:
            pool.stop()
        for pool in self._all:
            pool.join()

    def _new(self) -> ProcessPool:
        context = multiprocessing.get_context("spawn")
        pool = ProcessPool(max_workers=1, initializer=_enter, initargs=(self._warm_up,), context=context)
        self._all.add(pool)
        with suppress(BrokenExecutor):  # its child was killed before it was told who it is
            _ = pool.active  # asking starts it
        return pool

    def _replaced(self, pool: ProcessPool) -> ProcessPool:
        self._all.discard(pool)
        pool.stop()
        Thread(target=pool.join, name="end of a decoder", daemon=True).start()  # it waits for threads that tick
        return self._new()


class Runs(Protocol):
    """What runs work in a child: a ChildPool."""

    async def run(self, work: Any, *args: Any, **kwargs: Any) -> Any:
        """The work's result."""


async def surely(pool: Runs, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """The work's result from a child; one that dies is followed by another, DEATHS in all. Raises as `ChildPool.run`.

    It may have been killed for another's sake, or held up on a busy machine; one that dies so often died of its work.
    """
    for attempt in range(DEATHS):
        try:
            result: T = await pool.run(work, *args, **kwargs)
        except Invalid as error:
            if error.reason != Reason.DECODER_DIED or attempt == DEATHS - 1:
                raise
        else:
            return result
    raise AssertionError("unreachable")


async def _lent(pool: ProcessPool, work: Callable[[], T]) -> T:
    """As `_result`; arrays come in memory that both see, half of a pipe's cost. It has no name: nothing of it outlives its holders."""
    memory = os.memfd_create("result")
    try:
        where = f"/proc/{os.getpid()}/fd/{memory}", os.fstat(memory).st_ino
        said, ends = await _result(pool, partial(_lend, *where, work))
        whole = memoryview(mmap.mmap(memory, ends[-1]) if ends and ends[-1] else b"")
    finally:
        os.close(memory)
    result: T = pickle.loads(said, buffers=[whole[first:last] for first, last in zip([0, *ends], ends, strict=False)])
    return result


def _lend(path: str, inode: int, work: Callable[[], Any]) -> tuple[bytes, list[int]]:
    """The work's result pickled without its arrays, and where each of them ends in the memory at `path`; runs in the child."""
    arrays: list[pickle.PickleBuffer] = []
    said, ends = pickle.dumps(work(), 5, buffer_callback=arrays.append), []
    if arrays:
        with Path(path).open("r+b") as memory:
            if os.fstat(memory.fileno()).st_ino != inode:  # nobody waits any more, and the number is another file's by now
                raise BrokenPipeError(path)
            for one in arrays:
                memory.write(one.raw())
                ends.append(memory.tell())
    return said, ends


async def _result(pool: ProcessPool, work: Callable[[], T]) -> T:
    """The work's result. Raises BrokenExecutor if the child was gone before it began; pebble may forget the task then, without a word."""
    try:
        future: asyncio.Future[T] = asyncio.wrap_future(pool.schedule(work, timeout=LIMIT_S))
    except RuntimeError as error:
        raise BrokenExecutor("the pool has no child") from error
    try:
        while not (await asyncio.wait({future}, timeout=TICK_S))[0]:
            if not pool.active and not (await asyncio.wait({future}, timeout=TICK_S))[0]:
                raise BrokenExecutor("the pool has no child and forgot its task")
        return future.result()
    finally:
        future.cancel()


def _enter(warm_up: Callable[[], object] | None) -> None:
    resource.setrlimit(resource.RLIMIT_DATA, (MEMORY_BYTES, MEMORY_BYTES))
    if warm_up is not None:
        warm_up()
