"""Known clips of the evaluation set, and silence: what a release must get right whatever its scores are."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from soundscape.audio import SAMPLE_RATE, WINDOW_S
from soundscape.features import Float32
from trainer.evaluation.hear import Ears, features_of, sound_of, specs_of
from trainer.evaluation.rows import Rows
from trainer.gate.checks import Check, knows, silent_on_silence, steady

EACH = 5
LOUDEST = 20
"""Known clips are chosen by hash among so many of the loudest."""
GAINS_DB = (-12.0, 12.0)
ON_THE_EDGE = 0.02
"""A score so near its threshold is no decision: int8 and the sound's last bits may tip it."""
LENGTH = int(WINDOW_S * SAMPLE_RATE)


@dataclass(frozen=True)
class Known:
    """A window of the set by id: its sound, mono float32 at 32 kHz, and its label; None where nothing calls."""

    name: str
    wave: Float32
    label: str | None


def choose(rows: Rows, labels: Sequence[str], can: npt.NDArray[np.bool_], champion: str | None) -> list[Known]:
    """Known positives (one label, which the release can name) and negatives of a set: the same ones for everybody.

    Where there is a champion, its answer and the truth agree on all of them; `champion` is its name among the answers.
    """
    agreed = np.ones(len(rows.truth), bool)
    if champion is not None:
        agreed = (rows.answers[champion].named == rows.truth).all(axis=1)
    single = agreed & (rows.truth.sum(axis=1) == 1) & (rows.truth & can).any(axis=1)
    strength = np.where(np.isnan(rows.snr).all(axis=1), rows.levels, np.nan_to_num(rows.snr, nan=-99.0).max(axis=1))
    named = [Known(rows.id_of(row), _window(rows, row), labels[int(rows.truth[row].argmax())]) for row in _some(rows, single, strength)]
    empty = agreed & ~rows.truth.any(axis=1)
    return named + [Known(rows.id_of(row), _window(rows, row), None) for row in _some(rows, empty, rows.levels)]


def golden(ears: Ears, known: Sequence[Known], own: dict[str, str], champion: str | None) -> list[Check]:
    """Every check on silence and on the known clips; `own` is the release's label for each label of the set."""
    changed: dict[str, list[str]] = {}
    positives: dict[str, bool] = {}
    negatives: dict[str, bool] = {}
    for one in known:
        before = _scores(ears, one.wave)
        named = _named(ears, before)
        if one.label is None:
            negatives[one.name] = not named
        else:
            positives[one.name] = own[one.label] in named
        for gain in GAINS_DB:
            after = _scores(ears, np.asarray(one.wave * np.float32(10 ** (gain / 20)), np.float32))
            if moved := _changed(ears, before, after):
                changed.setdefault(one.name, []).extend(moved)
    noise = np.random.default_rng(0).triangular(-1, 0, 1, LENGTH) / 32768
    silence = [_named(ears, _scores(ears, np.asarray(wave, np.float32))) for wave in (np.zeros(LENGTH), noise)]
    both = [knows("positive", positives, champion), knows("negative", negatives, champion)]
    return [silent_on_silence(*silence), steady(changed, len(known)), *both]


def waves(known: Sequence[Known]) -> list[Float32]:
    """The sounds of the known clips, or a made one where there are none: what models are timed and compared on."""
    return [one.wave for one in known] or [np.random.default_rng(1).normal(0, 0.05, LENGTH).astype(np.float32)]


def _some(rows: Rows, eligible: npt.NDArray[np.bool_], strength: Float32) -> list[int]:
    loudest = sorted(np.flatnonzero(eligible).tolist(), key=lambda row: (-float(strength[row]), row))[:LOUDEST]
    return sorted(loudest, key=lambda row: hashlib.sha256(rows.id_of(row).encode()).digest())[:EACH]


def _window(rows: Rows, row: int) -> Float32:
    part = sound_of(rows.sounds[rows.which[row]].path)[int(rows.window[row]) * LENGTH :][:LENGTH]
    return np.pad(part, (0, LENGTH - part.size))


def _scores(ears: Ears, wave: Float32) -> Float32:
    scores: Float32 = ears.answer(features_of(wave, specs_of(ears.loaded))).unweighted[0]
    return scores


def _named(ears: Ears, scores: Float32) -> list[str]:
    return [ears.loaded.label_names[n] for n in np.flatnonzero(scores >= ears.loaded.thresholds)]


def _changed(ears: Ears, before: Float32, after: Float32) -> list[str]:
    thresholds = ears.loaded.thresholds
    crossed = (before >= thresholds) != (after >= thresholds)
    firm = np.maximum(np.abs(before - thresholds), np.abs(after - thresholds)) > ON_THE_EDGE
    return [ears.loaded.label_names[n] for n in np.flatnonzero(crossed & firm)]
