"""What happens in a child stays in a child: it may die, hang or take all memory, and the next one works."""

from __future__ import annotations

import asyncio
import math
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from soundscape import isolation
from soundscape.audio import decode
from soundscape.errors import Invalid, Reason
from soundscape.isolation import MEMORY_BYTES, ChildPool


@pytest.fixture(scope="module")
def children() -> Iterator[ChildPool]:
    """A pool of one child, so that its successor is seen to work."""
    pool = ChildPool(1)
    yield pool
    pool.close()


@pytest.mark.parametrize(
    ("work", "argument"),
    [(os._exit, 3), (signal.raise_signal, signal.SIGKILL), (signal.raise_signal, signal.SIGSEGV), (bytearray, 2 * MEMORY_BYTES)],
    ids=["exit", "killed", "crashed", "memory"],
)
async def test_a_child_that_dies_fails_its_own_task_only(children: ChildPool, work: Callable[[Any], Any], argument: Any) -> None:
    """The task is a dead letter's; the next task is answered by another child."""
    with pytest.raises(Invalid) as refused:
        await children.run(work, argument)
    assert refused.value.reason is Reason.DECODER_DIED
    assert await children.run(math.sqrt, 9.0) == 3.0


async def test_arrays_come_back_as_they_were(children: ChildPool) -> None:
    """In memory that both see: several in one result, an empty one, one that is not contiguous; and each can be written to."""
    grid = np.arange(12, dtype=np.float32).reshape(3, 4)
    found = await children.run(_all, grid, np.zeros(0, np.float32), grid.T[::2], "a word")
    assert found[3] == "a word"
    for one, wanted in zip(found, (grid, np.zeros(0, np.float32), grid.T[::2]), strict=False):
        np.testing.assert_array_equal(one, wanted, strict=True)
    found[0][0, 0] = 5.0
    other = await children.run(_all, grid)
    assert (found[0][0, 0], other[0][0, 0]) == (5.0, 0.0), "each result has memory of its own"
    assert not (await children.run(_all, np.zeros(0)))[0].size


async def test_no_memory_of_a_result_is_left_open(children: ChildPool) -> None:
    """Neither of one that was handed over nor of one that failed."""
    before = psutil.Process().num_fds()
    for _ in range(5):
        await children.run(_all, np.ones(9))
        with pytest.raises(ValueError, match="math domain"):
            await children.run(math.sqrt, -1.0)
    assert psutil.Process().num_fds() == before


def test_what_nobody_waits_for_is_written_nowhere(tmp_path: Path) -> None:
    """The descriptor's number may be another file's by the time a child is done."""
    (tmp_path / "other").write_bytes(b"its own")
    with pytest.raises(BrokenPipeError):
        isolation._lend(str(tmp_path / "other"), 1, lambda: np.ones(3))
    assert (tmp_path / "other").read_bytes() == b"its own"


async def test_a_child_that_is_killed_while_idle_is_replaced(children: ChildPool) -> None:
    """Again and again: no task is blamed, none waits for a lock that the dead one held."""
    for _ in range(3):
        pid = await children.run(os.getpid)
        os.kill(pid, signal.SIGKILL)
        assert await children.run(os.getpid) != pid


async def test_an_idle_child_takes_no_other_with_it() -> None:
    """Two children, of which one is killed whichever waits for work."""
    pool = ChildPool(2)
    try:
        first, second = await asyncio.gather(pool.run(_pid_after_a_while), pool.run(_pid_after_a_while))
        assert first != second
        os.kill(first, signal.SIGKILL)
        assert second in await asyncio.gather(pool.run(_pid_after_a_while), pool.run(_pid_after_a_while))
        os.kill(second, signal.SIGKILL)
        assert await asyncio.gather(*(pool.run(math.sqrt, 4.0) for _ in range(6))) == [2.0] * 6
    finally:
        pool.close()


async def test_children_that_are_killed_as_they_come() -> None:
    """No task waits for ever for a child that never lives: it fails with its reason, and when the killing ends the next is answered."""
    pool, stop = ChildPool(1), threading.Event()

    def hunt() -> None:
        while not stop.wait(0.02):
            for child in psutil.Process().children(recursive=True):
                with suppress(psutil.NoSuchProcess):
                    if "spawn_main" in " ".join(child.cmdline()):
                        child.kill()

    hunting = asyncio.create_task(asyncio.to_thread(hunt))
    try:
        for _ in range(3):
            with pytest.raises(Invalid) as refused:
                await pool.run(time.sleep, 5)
            assert refused.value.reason is Reason.DECODER_DIED
        stop.set()
        await hunting
        assert await pool.run(math.sqrt, 9.0) == 3.0
    finally:
        stop.set()
        pool.close()


def _all(*things: Any) -> tuple[Any, ...]:
    return things


def _pid_after_a_while() -> int:
    """Slow enough that the other child takes the next task."""
    time.sleep(0.3)
    return os.getpid()


async def test_a_child_that_hangs_is_ended(children: ChildPool, monkeypatch: pytest.MonkeyPatch) -> None:
    """After the limit, with its own reason."""
    monkeypatch.setattr(isolation, "LIMIT_S", 0.5)
    with pytest.raises(Invalid) as refused:
        await children.run(time.sleep, 3600)
    assert refused.value.reason is Reason.DECODER_DIED
    assert await children.run(math.sqrt, 9.0) == 3.0


async def test_what_the_work_raises_arrives(children: ChildPool) -> None:
    """With the reason that the decoder gave."""
    with pytest.raises(Invalid) as refused:
        await children.run(decode, b"no sound")
    assert refused.value.reason is Reason.NOT_AUDIO
    with pytest.raises(ZeroDivisionError):
        await children.run(divmod, 1, 0)


async def test_work_happens_in_another_process(children: ChildPool) -> None:
    """Not in a thread of this one."""
    assert await children.run(os.getpid) != os.getpid()
