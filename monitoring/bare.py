"""The bare loop: a file heard without broker or server, in the fastest arrangement of processes, threads and batches found here."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from contextlib import closing
from multiprocessing import get_context
from typing import NamedTuple

from monitoring.hearing import Heard, Way, new_hearing
from soundscape.audio import WINDOW_S

_heard_by: Callable[[bytes], Heard] | None = None
"""What hears a file; a child's own."""


class Arrangement(NamedTuple):
    """Processes, threads of each, and windows in one inference."""

    processes: int
    threads: int
    batch: int

    def __str__(self) -> str:
        return f"{self.processes} processes of {self.threads} threads, {self.batch} windows at once"


class Speed(NamedTuple):
    """Seconds of sound that were heard in a second of wall time, start-up left out, and CPU milliseconds of a window in each step."""

    sound_per_s: float
    decode: float
    features: float
    inference: float

    @property
    def windows_per_s(self) -> float:
        """Windows of 5 s heard in a second of wall time."""
        return self.sound_per_s / WINDOW_S

    def cpu_ms(self) -> dict[str, float]:
        """CPU milliseconds of a window of 5 s, by step."""
        return {name: round(getattr(self, name), 2) for name in ("decode", "features", "inference")}


def arrangements(batches: tuple[int, ...] = (4, 12)) -> list[Arrangement]:
    """What is tried: one process a core (the fastest on every machine so far), and one process with all cores."""
    cores = len(os.sched_getaffinity(0))
    return [*(Arrangement(cores, 1, batch) for batch in batches), Arrangement(1, cores, batches[-1])]


class BareLoop:
    """Children that hold a model each and hear whole minutes."""

    def __init__(self, way: Way, arrangement: Arrangement) -> None:
        self._pool = ProcessPoolExecutor(
            arrangement.processes, get_context("spawn"), initializer=_open, initargs=(way, arrangement.threads, arrangement.batch)
        )
        self.processes = arrangement.processes

    def speed(self, minutes: list[bytes]) -> Speed:
        """How fast these are heard."""
        list(self._pool.map(_hear, minutes[: self.processes] * 2))
        started = time.perf_counter()
        heard = list(self._pool.map(_hear, minutes))
        sound, wall = sum(one.sound for one in heard), time.perf_counter() - started
        return Speed(sound / wall, *(sum(step) / (sound / WINDOW_S) * 1000 for step in list(zip(*heard, strict=True))[1:]))

    def clip_ms(self, clips: list[bytes], rounds: int) -> float:
        """Median milliseconds of one clip at a time: decode, log-mel, one inference."""
        spent = [self._pool.submit(_timed, clips[n % len(clips)]).result() for n in range(rounds + 3)]
        return statistics.median(spent[3:]) * 1000

    def close(self) -> None:
        """End the children."""
        self._pool.shutdown()


def bare_speed(way: Way, arrangement: Arrangement, minutes: list[bytes]) -> Speed:
    """One measurement of the bare loop, its processes ended after it."""
    with closing(BareLoop(way, arrangement)) as loop:
        return loop.speed(minutes)


def fastest(way: Way, tried: list[Arrangement], minutes: list[bytes], say: Callable[[str], None]) -> Arrangement:
    """The arrangement that hears these minutes fastest; `say` is told of each."""
    found = {}
    for arrangement in tried:
        found[arrangement] = bare_speed(way, arrangement, minutes).windows_per_s
        say(f"{arrangement}: {found[arrangement]:.1f} windows a second")
    return max(found, key=found.__getitem__)


def _open(way: Way, threads: int, batch: int) -> None:
    global _heard_by
    _heard_by = new_hearing(way, threads, batch)


def _hear(body: bytes) -> Heard:
    assert _heard_by is not None
    return _heard_by(body)


def _timed(body: bytes) -> float:
    started = time.perf_counter()
    _hear(body)
    return time.perf_counter() - started
