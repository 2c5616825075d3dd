"""Windows of sound composed as they fly by: the recipe of trainer/training/mixing.py, for a model that hears sound and no mel power."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

import numpy as np
import numpy.typing as npt

from soundscape.audio import SAMPLE_RATE, WINDOW_S
from soundscape.features import FeatureSpec
from trainer.data import store
from trainer.evaluation.hear import SILENCE, sound_of
from trainer.training.mixing import Recipe, Urn, lay, mark
from trainer.training.pseudo import known

Float32 = npt.NDArray[np.float32]

LENGTH = int(WINDOW_S * SAMPLE_RATE)
BED_DBFS = (-55.0, -30.0)
"""Level of a bed (RMS): recorders and forests differ."""
PEAK = 0.95
TILT = (0.0, 1.5)
"""A made bed's amplitude falls with frequency ** -TILT: 0 hisses, 1 rushes."""
LOWEST_HZ = 100.0
"""Below, a made bed's spectrum is flat."""
KEPT = 40
"""Sounds of a minute that a process keeps decoded: 300 MB."""


class SoundMixer:
    """Composes windows from a role's clips, over the unlabelled soundscapes where there are any; the same for the same generator."""

    def __init__(self, prepared: store.Prepared, role: str, rng: np.random.Generator, recipe: Recipe) -> None:
        column = {label: n for n, label in enumerate(prepared.labels)}
        self._source, self._clips, self._beds = prepared.source, prepared.of(role), prepared.of(store.BED)
        self._columns = [tuple(column[label] for label in item.labels) for item in self._clips]
        self._urn = Urn([own[0] for own in self._columns], [item.weight for item in self._clips], len(column), recipe.rarity)
        self._labels, self._rng, self._recipe = len(column), rng, recipe
        self._known = known(prepared, recipe.pseudo)

    def batches(self, size: int, spec: FeatureSpec) -> Iterator[tuple[Float32, Float32, Float32]]:
        """Endless batches: windows as `spec` hears them, float32 (size, *spec.shape), truth and weight (size, labels)."""
        while True:
            waves, truth, weight = zip(*(self.window() for _ in range(size)), strict=True)
            yield np.concatenate([spec.compute(wave) for wave in waves]), np.stack(truth), np.stack(weight)

    def window(self) -> tuple[Float32, Float32, Float32]:
        """One window, float32 (LENGTH,) at 32 kHz, with truth and weight (labels,), which are those of `Mixer.window`.

        Raises Invalid as `soundscape.audio.decode` if a sound has changed since it was prepared.
        """
        rng, recipe = self._rng, self._recipe
        truth, weight = np.zeros(self._labels, np.float32), np.ones(self._labels, np.float32)
        wave = bed = self._bed(truth, weight)
        for _ in range(rng.choice(len(recipe.calls), p=recipe.calls)):
            clip = self._urn.draw(rng)
            wave = wave + self._placed(self._sound(self._clips[clip]), bed)
            mark(self._columns[clip], truth, weight, recipe)
        weight[truth > 0] = 1.0
        peak = float(np.abs(wave).max())
        return wave if peak <= PEAK else np.asarray(wave * (PEAK / peak), np.float32), truth, weight

    def single(self) -> tuple[Float32, Float32, Float32]:
        """A window of one clip as it was recorded, a shorter one somewhere in silence; otherwise as `window`."""
        rng, recipe = self._rng, self._recipe
        truth, weight = np.zeros(self._labels, np.float32), np.ones(self._labels, np.float32)
        clip = self._urn.draw(rng)
        call = _loudest(self._sound(self._clips[clip]), LENGTH, rng, recipe.loudest_of)
        at = int(rng.integers(0, LENGTH - call.size + 1)) if rng.random() < 0.5 else 0
        mark(self._columns[clip], truth, weight, recipe)
        weight[truth > 0] = 1.0
        return np.pad(call, (at, LENGTH - call.size - at)), truth, weight

    def _placed(self, sound: Float32, bed: Float32) -> Float32:
        """A stretch of a clip somewhere in the window, so loud over the bed as the recipe draws."""
        rng, recipe = self._rng, self._recipe
        call = _loudest(sound, int(rng.uniform(*recipe.call_s) * SAMPLE_RATE), rng, recipe.loudest_of)
        inside = min(call.size, int(recipe.min_inside_s * SAMPLE_RATE))
        at = int(rng.integers(inside - call.size, LENGTH - inside + 1))
        first, last = max(0, at), min(LENGTH, at + call.size)
        out = np.zeros(LENGTH, np.float32)
        gain = _rms(bed[first:last]) / _rms(call) * 10 ** (rng.uniform(*recipe.snr_db) / 20)
        out[first:last] = call[first - at : last - at] * np.float32(gain)
        return out

    def _bed(self, truth: Float32, weight: Float32) -> Float32:
        """Sound that calls are laid over, float32 (LENGTH,); what is known to call in it is said in truth and weight."""
        rng, bed = self._rng, None
        if self._beds and rng.random() < self._recipe.recorded_bed:
            item = self._beds[int(rng.integers(len(self._beds)))]
            sound, there = self._sound(item), self._known.get(item.name)
            if there is None:
                start = int(rng.integers(0, max(1, sound.size - LENGTH)))
            else:
                window = int(rng.integers(len(there.truth)))
                lay(there, window, truth, weight)
                start = window * LENGTH
            bed = np.resize(sound[start : start + LENGTH], LENGTH)
        if bed is None or np.abs(bed).max() <= SILENCE:  # a recorder's gap is no bed
            bed = _noise(rng)
        return np.asarray(bed * (10 ** (rng.uniform(*BED_DBFS) / 20) / _rms(bed)), np.float32)

    def _sound(self, item: store.Item) -> Float32:
        return _decoded(self._source / item.name, item.voices)


@lru_cache(maxsize=KEPT)
def _decoded(path: Path, voices: tuple[int, ...]) -> Float32:
    return np.asarray(store.unspoken(sound_of(path), voices, LENGTH), np.float32)


def _loudest(sound: Float32, length: int, rng: np.random.Generator, tries: int) -> Float32:
    """The loudest of some stretches."""
    if sound.size <= length:
        return sound
    starts = rng.integers(0, sound.size - length, tries)
    return max((sound[start : start + length] for start in starts), key=_rms)


def _noise(rng: np.random.Generator) -> Float32:
    """Wind, rain, stream: noise of a random tilt, float32 (LENGTH,)."""
    bins = np.maximum(np.fft.rfftfreq(LENGTH, 1 / SAMPLE_RATE), LOWEST_HZ)
    spectrum = (rng.standard_normal(bins.size) + 1j * rng.standard_normal(bins.size)) * bins ** -rng.uniform(*TILT)
    return np.fft.irfft(spectrum, LENGTH).astype(np.float32)


def _rms(sound: Float32) -> float:
    return float(np.sqrt(np.mean(np.square(sound, dtype=np.float64)))) + 1e-9
