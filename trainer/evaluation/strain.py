"""Where a release begins to fail: labelled calls put together at known strength: several at once, weak, over rain, wind, stream, insects.

Everything is mixed as sound, so that any release hears it by its own features. The same calls stand at every point of a curve.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.ndimage import uniform_filter1d

from soundscape.audio import SAMPLE_RATE
from soundscape.errors import Invalid
from soundscape.features import Float32
from trainer.evaluation import evaluate
from trainer.evaluation.beds import BED_RMS, BEDS, LENGTH
from trainer.evaluation.hear import Ears, features_of, sound_of, specs_of
from trainer.evaluation.material import EvaluationSet
from trainer.evaluation.rows import columns
from trainer.progress import Counted

CALL_S = 3.0
"""Cut from a clip where it is loudest."""
WINDOWS = 64
"""Composed at each point of a curve."""
MAX_CALLS = 120
"""Calls that are cut at most: species by species, so that the rare ones are there."""
STRENGTHS_DB = (12.0, 6.0, 0.0, -6.0, -12.0)
"""Mean power of the call over that of the bed in the same stretch, all frequencies together."""
AT_ONCE = (1, 2, 3, 4)
QUIET_DB = 18.0
"""Of each call over the bed where calls overlap: what is hard there is the others."""


@dataclass(frozen=True)
class Call:
    """Three seconds of a labelled clip: mono float32 at 32 kHz, RMS 1, and its columns of truth."""

    wave: Float32
    columns: tuple[int, ...]


@dataclass(frozen=True)
class Point:
    """One strength: macro mAP, the share of calls that were named, and wrong names a window."""

    strength: float
    mean_ap: float | None
    named: float
    wrong: float


def curves(
    material: EvaluationSet, ears: Ears, windows: int = WINDOWS, progress: Counted | None = None
) -> dict[str, list[Point]]:
    """A curve for each kind of strain by its name; none without two species' calls to compose."""
    calls = _calls(material)
    if len({call.columns[0] for call in calls}) < 2:
        return {}
    planned: list[tuple[str, float, int, str, float]] = [("calls at once", n, n, "still air", QUIET_DB) for n in AT_ONCE]
    planned += [(f"over {bed}", decibels, 1, bed, decibels) for bed in BEDS for decibels in STRENGTHS_DB]
    out: dict[str, list[Point]] = {}
    for n, (name, strength, at_once, bed, decibels) in enumerate(planned):
        waves, truth = _composed(calls, at_once, bed, decibels, windows, len(material.labels))
        out.setdefault(name, []).append(_point(material, ears, strength, waves, truth))
        if progress:
            progress(n + 1, len(planned))
    return out


def _calls(material: EvaluationSet) -> list[Call]:
    """Calls of the focal clips, one a species in turn."""
    column = {label: n for n, label in enumerate(material.labels)}
    waiting: dict[str, list[Any]] = {}
    for sound in sorted(material.of("focal"), key=lambda one: one.digest):
        if sound.labels and sound.labels[0] in column:
            waiting.setdefault(sound.labels[0], []).append(sound)
    out: list[Call] = []
    while waiting and len(out) < MAX_CALLS:
        for label in sorted(waiting):
            sound = waiting[label].pop(0)
            if not waiting[label]:
                del waiting[label]
            try:
                call = _loudest(sound_of(sound.path))
            except Invalid:
                continue
            if call is not None and len(out) < MAX_CALLS:
                out.append(Call(call, tuple(column[one] for one in sound.labels if one in column)))
    return out


def _loudest(wave: Float32) -> Float32 | None:
    """The loudest three seconds with soft ends, RMS 1; None of silence."""
    length = int(CALL_S * SAMPLE_RATE)
    if wave.size > length:
        power = uniform_filter1d(np.square(wave, dtype=np.float64), length, mode="constant")
        start = int(np.clip(power.argmax() - length // 2, 0, wave.size - length))
        wave = wave[start : start + length]
    rms = float(np.sqrt(np.mean(np.square(wave, dtype=np.float64))))
    if rms < 1e-6:
        return None
    edge = min(wave.size // 4, SAMPLE_RATE // 50)
    shape = np.ones(wave.size, np.float32)
    shape[:edge] = shape[wave.size - edge :][::-1] = np.linspace(0, 1, edge, dtype=np.float32)
    return np.asarray(wave * shape / np.float32(rms), np.float32)


def _composed(
    calls: Sequence[Call], at_once: int, bed: str, decibels: float, windows: int, labels: int
) -> tuple[list[Float32], npt.NDArray[np.bool_]]:
    """Windows with so many calls of different species over a bed, and their truth; the same calls and beds whatever the strength."""
    truth, waves = np.zeros((windows, labels), bool), []
    for n in range(windows):
        rng = np.random.default_rng([n, 31])
        canvas = BEDS[bed](rng)
        for wave, columns_ in _chosen(calls, n, at_once):
            at = int(rng.integers(0, max(1, LENGTH - wave.size + 1)))
            here = slice(at, at + wave.size)
            canvas[here] += wave * np.float32(BED_RMS * 10 ** (decibels / 20))
            truth[n, list(columns_)] = True
        waves.append(np.asarray(canvas * np.float32(0.5 / max(1e-9, float(np.abs(canvas).max()))), np.float32))
    return waves, truth


def _chosen(calls: Sequence[Call], n: int, at_once: int) -> Iterator[tuple[Float32, tuple[int, ...]]]:
    """The n-th call, and after it the next ones of other species."""
    used: set[int] = set()
    for step in range(len(calls)):
        call = calls[(n + step) % len(calls)]
        if call.columns[0] not in used:
            used.add(call.columns[0])
            yield call.wave, call.columns
        if len(used) == at_once:
            return


def _point(material: EvaluationSet, ears: Ears, strength: float, waves: Sequence[Float32], truth: npt.NDArray[np.bool_]) -> Point:
    own = columns(ears.loaded, material.species)
    known, specs = own >= 0, specs_of(ears.loaded)
    scores, named = np.zeros(truth.shape, np.float32), np.zeros(truth.shape, bool)
    for n, wave in enumerate(waves):
        found = ears.answer(features_of(wave, specs)).unweighted[0]  # nobody knows where and when it would have been
        scores[n, known] = found[own[known]]
        named[n, known] = (found >= ears.loaded.thresholds)[own[known]]
    right, wrong = float((named & truth).sum()), float((named & ~truth).sum())
    return Point(strength, evaluate.score(truth, scores).mean_ap, right / float(truth.sum()), wrong / len(truth))
