"""The bare loop: the same decoding, features and ONNX without broker or server, in the fastest arrangement found here."""

from __future__ import annotations

import os
import statistics
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from soundscape.audio import decode
from soundscape.features import LOG_MEL

_session: Any = None
_batch = 0


class Arrangement(NamedTuple):
    """Processes, threads of each, and windows in one inference."""

    processes: int
    threads: int
    batch: int

    def __str__(self) -> str:
        return f"{self.processes} processes of {self.threads} threads, {self.batch} windows at once"


def arrangements() -> list[Arrangement]:
    """What is tried: one process a core (the fastest on every machine so far), and one process with all cores."""
    cores = len(os.sched_getaffinity(0))
    return [Arrangement(cores, 1, 4), Arrangement(cores, 1, 12), Arrangement(1, cores, 12)]


class BareLoop:
    """Children that hold a session each and hear whole minutes."""

    def __init__(self, model: Path, arrangement: Arrangement) -> None:
        self._pool = ProcessPoolExecutor(
            arrangement.processes, get_context("spawn"), initializer=_open, initargs=(str(model), arrangement.threads, arrangement.batch)
        )
        self.processes = arrangement.processes

    def windows_per_s(self, minutes: list[bytes]) -> float:
        """Windows of 5 s heard in a second of wall time, start-up left out."""
        list(self._pool.map(_hear, minutes[: self.processes] * 2))
        started = time.perf_counter()
        windows = sum(self._pool.map(_hear, minutes))
        return windows / (time.perf_counter() - started)

    def clip_ms(self, clips: list[bytes], rounds: int) -> float:
        """Median milliseconds of one clip at a time: decode, log-mel, one inference."""
        spent = [self._pool.submit(_timed, clips[n % len(clips)]).result() for n in range(rounds + 3)]
        return statistics.median(spent[3:]) * 1000

    def close(self) -> None:
        """End the children."""
        self._pool.shutdown()


def _open(model: str, threads: int, batch: int) -> None:
    global _session, _batch
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    _session, _batch = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"]), batch


def _hear(body: bytes) -> int:
    mels = LOG_MEL.compute(decode(body))
    outputs = [_session.run(None, {"input": mels[first : first + _batch]})[0] for first in range(0, len(mels), _batch)]
    return len(1.0 / (1.0 + np.exp(-np.concatenate(outputs))))


def _timed(body: bytes) -> float:
    started = time.perf_counter()
    _hear(body)
    return time.perf_counter() - started
