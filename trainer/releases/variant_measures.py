"""What a form of a network is worth: how well it hears, how far it is from PyTorch, and how fast it answers, alone and at full load."""

from __future__ import annotations

import os
import statistics
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from soundscape.errors import Broken, Invalid
from trainer.evaluation import evaluate
from trainer.progress import Progress
from trainer.releases import quantize
from trainer.releases.runtimes import Run
from trainer.releases.variants import BATCHES, Forms, Variant
from trainer.training.learn import predict

Bool = npt.NDArray[np.bool_]
Float32 = npt.NDArray[np.float32]

ROUNDS = 3
"""Every form is measured once a round: what else the machine does at one moment then weighs on all of them."""
CALLS = 20
"""Single windows a round for the latency, after WARM ones."""
WARM = 3
SLICE_S = 0.25
"""Seconds of full load for each batch size and arrangement, a round."""


class Judged(NamedTuple):
    """What judges: windows float32 (windows, *shape), their truth bool (windows, labels), the recording of each."""

    windows: Float32
    truth: Bool
    recordings: npt.NDArray[np.str_]
    columns: npt.NDArray[np.intp]
    """(labels,): the network's output of each label of the truth."""


@dataclass
class Latency:
    """Milliseconds of single windows on so many threads."""

    threads: int
    samples: list[float] = field(default_factory=list)

    def plain(self) -> dict[str, float]:
        """For JSON."""
        median, p95 = np.percentile(self.samples, (50, 95))
        return {"threads": self.threads, "median_ms": round(float(median), 3), "p95_ms": round(float(p95), 3)}


@dataclass
class Speed:
    """Windows a second with so many sessions of so many threads at once, in batches."""

    sessions: int
    threads: int
    batch: int
    samples: list[float] = field(default_factory=list)

    @property
    def windows_per_s(self) -> float:
        """The median of the rounds."""
        return statistics.median(self.samples)

    def plain(self) -> dict[str, float]:
        """For JSON."""
        said = {"sessions": self.sessions, "threads": self.threads, "batch": self.batch}
        return {**said, "windows_per_s": round(self.windows_per_s, 1)}


@dataclass
class Measured:
    """All that is known of one form."""

    variant: Variant
    path: Path
    """Of its file, which may be a scratch file; `bytes` is its size."""
    bytes: int
    auc: float | None
    mean_ap: float | None
    loss: evaluate.Difference | None
    """Paired, of macro mAP from PyTorch's on the same windows: negative where this form is worse (95 %)."""
    largest: float
    """Largest difference in probability from PyTorch."""
    latencies: list[Latency] = field(default_factory=list)
    speeds: list[Speed] = field(default_factory=list)

    @property
    def struck_out(self) -> bool:
        """Whether it disagrees with PyTorch beyond its bound."""
        return not self.largest <= self.variant.bound  # NaN is struck out too

    def served(self) -> Speed:
        """As the model server runs it, many sessions of one thread, at its best batch."""
        most = max(one.sessions for one in self.speeds)
        return max((one for one in self.speeds if one.sessions == most), key=lambda one: one.windows_per_s)

    def plain(self) -> dict[str, Any]:
        """For JSON."""
        difference = None if self.loss is None else {"mean": self.loss.mean, "low": self.loss.low, "high": self.loss.high}
        return {
            "variant": self.variant.name, "runtime": self.variant.runtime, "precision": self.variant.precision,
            "graph_level": self.variant.graph_level, "provider": self.variant.provider, "auc": self.auc, "mean_ap": self.mean_ap,
            "mean_ap_difference": difference, "largest_difference": self.largest, "bound": self.variant.bound,
            "struck_out": self.struck_out, "latencies": [one.plain() for one in self.latencies],
            "speeds": [one.plain() for one in self.speeds], "bytes": self.bytes,
        }  # fmt: skip


def measure(
    forms: Forms, variants: Sequence[Variant], judged: Judged, progress: Progress, seconds: float = SLICE_S
) -> tuple[list[Measured], dict[str, str]]:
    """Measure each variant that can be had here, and say by name why the others cannot. The order of `variants` is kept."""
    reference = quantize.sigmoid(predict(forms.net, judged.windows))
    found, left_out = [], {}
    loads = []
    for n, variant in enumerate(variants, 1):
        if why := variant.missing():
            left_out[variant.name] = why
        else:
            try:
                path = forms.path(variant.form)
                load = _Load(variant, path, judged.windows)
                found.append(_heard(variant, path, load.alone[-1][1], judged, reference))
                loads.append(load)
            except (Invalid, Broken) as error:
                left_out[variant.name] = str(error)
        progress("forms made and heard", n, len(variants))
    for n in range(ROUNDS * len(found)):
        loads[n % len(found)].run(found[n % len(found)], seconds)
        progress("measurements of speed", n + 1, ROUNDS * len(found))
    return found, left_out


def cores() -> int:
    """Of this process."""
    return len(os.sched_getaffinity(0))


class _Load:
    """The sessions of one variant, and what they are given to do."""

    def __init__(self, variant: Variant, path: Path, windows: Float32) -> None:
        many = 1 if variant.on_gpu else cores()
        self.crowd = [variant.open(path, 1) for _ in range(many)]
        self.alone = [(1, self.crowd[0])] + ([(many, variant.open(path, many))] if many > 1 else [])
        """Threads and session."""
        self.arrangements = [self.crowd, *([session] for threads, session in self.alone if threads > 1)]
        self._windows = windows

    def run(self, into: Measured, seconds: float) -> None:
        """One round of latency and full load, added to what was measured before."""
        if not into.speeds:
            into.latencies = [Latency(threads) for threads, _ in self.alone]
            each = [(len(crowd), 1 if crowd is self.crowd else cores()) for crowd in self.arrangements]
            into.speeds = [Speed(sessions, threads, batch) for sessions, threads in each for batch in BATCHES]
        for latency, (_, session) in zip(into.latencies, self.alone, strict=True):
            latency.samples += _latencies(session, self._windows)
        pairs = [(crowd, batch) for crowd in self.arrangements for batch in BATCHES]
        for speed, (crowd, batch) in zip(into.speeds, pairs, strict=True):
            speed.samples.append(full_load(crowd, self._windows, batch, seconds))


def _latencies(session: Run, windows: Float32) -> list[float]:
    taken = []
    for n in range(WARM + CALLS):
        window = windows[n % len(windows)][None]
        began = time.perf_counter()
        session(window)
        taken.append((time.perf_counter() - began) * 1000)
    return taken[WARM:]


def full_load(crowd: Sequence[Run], windows: Float32, batch: int, seconds: float) -> float:
    """Windows a second of sessions that all work at once for at least so long."""
    given = np.resize(windows, (batch, *windows.shape[1:]))
    ready = threading.Barrier(len(crowd) + 1)

    def work(session: Run) -> int:
        for _ in range(WARM):
            session(given)
        ready.wait()
        end, done = time.perf_counter() + seconds, 0
        while not done or time.perf_counter() < end:
            session(given)
            done += batch
        return done

    with ThreadPoolExecutor(len(crowd)) as pool:
        working = [pool.submit(work, session) for session in crowd]
        ready.wait()
        began = time.perf_counter()
        total = sum(one.result() for one in working)
        return total / (time.perf_counter() - began)


def _heard(variant: Variant, path: Path, session: Run, judged: Judged, reference: Float32) -> Measured:
    step = max(BATCHES)
    logits = np.concatenate([session(judged.windows[n : n + step]) for n in range(0, len(judged.windows), step)])
    scores = quantize.sigmoid(logits)
    own, torchs = scores[:, judged.columns], reference[:, judged.columns]
    score = evaluate.score(judged.truth, own)
    loss = evaluate.difference(judged.truth, own, torchs, judged.recordings, evaluate.INTERVAL)
    return Measured(variant, path, path.stat().st_size, score.auc, score.mean_ap, loss, float(np.abs(scores - reference).max()))
