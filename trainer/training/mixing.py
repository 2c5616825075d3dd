"""Training windows composed as they fly by: calls cut from clips, placed over noise, with several species at once.

Everything is mixed in mel power (sounds that are independent add up in power) and scaled by its peak afterwards, as
`soundscape.features.log_mel` scales what is served. It is cheap: a window takes about 2 ms.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.ndimage import gaussian_filter1d, uniform_filter1d

from soundscape.features import LOG_MEL, SILENCE_POWER, FeatureSpec, band_widths

Float32 = npt.NDArray[np.float32]


class Known(NamedTuple):
    """What calls in windows: truth and weight, float32 (windows, labels); where the weight is 0 nothing is known."""

    truth: Float32
    weight: Float32


@dataclass(frozen=True)
class Recipe:
    """How windows are composed. Lengths in seconds, levels in dB."""

    calls: tuple[float, ...] = (0.1, 0.4, 0.3, 0.15, 0.05)
    """Chance of a window with 0, 1, 2, … calls."""
    call_s: tuple[float, float] = (1.0, 7.0)
    snr_db: tuple[float, float] = (0.0, 24.0)
    """Mean power of a call over the bed's in the same stretch, all frequencies together."""
    clean: float = 0.25
    """Chance of a window of one clip as it was recorded, without another bed."""
    min_inside_s: float = 0.5
    """A call that reaches into the window for less than this (and is not whole in it) is placed elsewhere."""
    rarity: float = 0.5
    """Species are drawn by (their clips) ** rarity: 0 is each as often, 1 each clip as often."""
    shift_bands: float = 3.0
    stretch: float = 0.12
    equaliser_db: float = 6.0
    recorded_bed: float = 0.4
    """Chance that the bed is recorded (if there are recordings without labels), otherwise made of noise."""
    loudest_of: int = 3
    """Stretches of a clip of which the loudest is taken: calls more often than not, and not always the same."""
    secondary_unsaid: bool = True
    """Of a clip's further labels nobody says in which window they call; otherwise they count as absent."""
    pseudo: str = ""
    """Whose answers say what calls in the recorded beds (trainer/training/pseudo.py); nothing does where empty."""
    masks: int = 2
    """SpecAugment: stripes of time and of bands laid over, at most this many each."""


RECIPE = Recipe()
"""The recommended one: what `soundscape ablate` was measured to bring is in docs/decisions/0010-ablation.md."""


@dataclass(frozen=True)
class Bed:
    """A recording without labels: mel power in dB (float16 (n_mels, frames)), and what is known of its windows."""

    decibels: npt.NDArray[np.float16]
    known: Known | None = None


@dataclass(frozen=True)
class Source:
    """One training clip: mel power in dB (float16 (n_mels, frames)) and its columns of truth, the primary one first."""

    decibels: npt.NDArray[np.float16]
    columns: tuple[int, ...]
    weight: float = 1.0
    """How often it is drawn beside others of its species."""


class Urn:
    """Draws clips: a species by (its clips) ** rarity, and one of its clips by weight."""

    def __init__(self, columns: Sequence[int], weights: Sequence[float], labels: int, rarity: float) -> None:
        """`columns`: the primary label's column of each clip; `weights`: how often it is drawn beside others of its species."""
        self._of = [[n for n, own in enumerate(columns) if own == column] for column in range(labels)]
        self._shares = [np.array([weights[n] for n in own]) / sum(weights[n] for n in own) if own else None for own in self._of]
        chance = np.array([len(own) ** rarity if own else 0.0 for own in self._of])
        self._chance = chance / chance.sum()

    def draw(self, rng: np.random.Generator) -> int:
        """The number of a clip."""
        column = int(rng.choice(len(self._of), p=self._chance))
        return self._of[column][int(rng.choice(len(self._of[column]), p=self._shares[column]))]


def mark(columns: Sequence[int], truth: Float32, weight: Float32, recipe: Recipe) -> None:
    """Say in a window's truth and weight (labels,) that a clip is in it: of its further labels nobody knows whether they are."""
    truth[columns[0]] = 1.0
    if recipe.secondary_unsaid:
        weight[list(columns[1:])] = 0.0


def lay(known: Known | None, window: int, truth: Float32, weight: Float32) -> None:
    """Say in a window's truth and weight (labels,) what is known of the bed under it."""
    if known is not None:
        np.maximum(truth, known.truth[window], out=truth)
        np.minimum(weight, known.weight[window], out=weight)


class Mixer:
    """Composes windows from clips and beds; the same for the same generator."""

    def __init__(
        self,
        clips: Sequence[Source],
        beds: Sequence[Bed],
        labels: int,
        rng: np.random.Generator,
        recipe: Recipe = RECIPE,
        spec: FeatureSpec = LOG_MEL,
    ) -> None:
        self._clips, self._beds, self._labels, self._rng, self._recipe, self._spec = clips, beds, labels, rng, recipe, spec
        self._bands = band_widths(spec)[:, None]
        """Slaney's filters are normed by width: times this, mel power is power again."""
        self._urn = Urn([clip.columns[0] for clip in clips], [clip.weight for clip in clips], labels, recipe.rarity)
        self._energy: dict[int, Float32] = {}

    def batches(self, size: int) -> Iterator[tuple[Float32, Float32, Float32]]:
        """Endless batches: windows (size, n_mels, frames), truth and weight (size, labels) in 0 to 1.

        The weight is 0 where a label is said of the clip, but not known to be in the part that was cut from it.
        """
        while True:
            drawn = [self.window() for _ in range(size)]
            yield tuple(np.stack(part) for part in zip(*drawn, strict=True))  # type: ignore[misc]

    def window(self) -> tuple[Float32, Float32, Float32]:
        """One window (n_mels, frames) with truth and weight (labels,)."""
        rng, recipe = self._rng, self._recipe
        truth, weight = np.zeros(self._labels, np.float32), np.ones(self._labels, np.float32)
        if rng.random() < recipe.clean:
            clip = self._draw()
            power = self._padded(self._varied(self._cut(clip, self._spec.frames)))
            mark(clip.columns, truth, weight, recipe)
        else:
            power = bed = self._bed(truth, weight)
            for _ in range(rng.choice(len(recipe.calls), p=recipe.calls)):
                clip = self._draw()
                power = power + self._placed(clip, bed)
                mark(clip.columns, truth, weight, recipe)
        weight[truth > 0] = 1.0
        return self._masked(self._scaled(power)), truth, weight

    def _draw(self) -> Source:
        return self._clips[self._urn.draw(self._rng)]

    def _cut(self, clip: Source, frames: int) -> Float32:
        """Mel power of a stretch in which something sounds, (n_mels, up to `frames`)."""
        total = clip.decibels.shape[1]
        if total <= frames:
            return _power(clip.decibels)
        energy = self._energy.get(id(clip))
        if energy is None:
            loud = np.log10((_power(clip.decibels) * self._bands).sum(axis=0) + SILENCE_POWER)
            energy = self._energy[id(clip)] = loud.astype(np.float32)
        means = uniform_filter1d(energy, frames, mode="nearest")[frames // 2 : frames // 2 + total - frames + 1]
        tries = self._rng.integers(0, len(means), self._recipe.loudest_of)
        start = int(tries[np.argmax(means[tries])])
        return _power(clip.decibels[:, start : start + frames])

    def _varied(self, power: Float32) -> Float32:
        """The same call from another animal and microphone: pitch, tempo and colour changed a little."""
        rng, recipe = self._rng, self._recipe
        bands, frames = power.shape
        if frames < 8:
            return power
        length = max(8, round(frames * float(np.exp(rng.uniform(-recipe.stretch, recipe.stretch)))))
        at = np.linspace(0, frames - 1, length)
        low = at.astype(int).clip(0, frames - 2)
        part = (at - low).astype(np.float32)
        power = power[:, low] * (1 - part) + power[:, low + 1] * part
        shift = float(rng.uniform(-recipe.shift_bands, recipe.shift_bands))
        source = (np.arange(bands) - shift).clip(0, bands - 1.001)
        below = source.astype(int)
        rest = (source - below).astype(np.float32)[:, None]
        power = power[below] * (1 - rest) + power[below + 1] * rest
        curve = np.interp(np.arange(bands), np.linspace(0, bands - 1, 6), rng.normal(0, recipe.equaliser_db / 2, 6))
        return np.asarray(power * 10 ** (curve[:, None] / 10), np.float32)

    def _placed(self, clip: Source, bed: Float32) -> Float32:
        """A call's mel power somewhere in the window, so loud over the bed as the recipe draws."""
        rng, recipe, frames = self._rng, self._recipe, self._spec.frames
        second = self._spec.sample_rate / self._spec.hop
        call = self._varied(self._cut(clip, int(rng.uniform(*recipe.call_s) * second)))
        inside = min(call.shape[1], int(recipe.min_inside_s * second))
        at = int(rng.integers(inside - call.shape[1], frames - inside + 1))
        first, last = max(0, at), min(frames, at + call.shape[1])
        loud = float((call * self._bands).sum() / call.shape[1])
        noise = float((bed[:, first:last] * self._bands).sum() / (last - first))
        out = np.zeros_like(bed)
        gain = noise / max(loud, 1e-20) * 10 ** (rng.uniform(*recipe.snr_db) / 10)
        out[:, first:last] = call[:, first - at : last - at] * np.float32(gain)
        return out

    def _padded(self, power: Float32) -> Float32:
        """A whole window; a shorter clip lies somewhere in silence, as a short upload does."""
        frames = self._spec.frames
        out = np.full((power.shape[0], frames), SILENCE_POWER, np.float32)
        power = power[:, :frames]
        at = int(self._rng.integers(0, frames - power.shape[1] + 1)) if self._rng.random() < 0.5 else 0
        out[:, at : at + power.shape[1]] = power
        return out

    def _bed(self, truth: Float32, weight: Float32) -> Float32:
        """Mel power (n_mels, frames) that calls are laid over; what is known to call in it is said in truth and weight."""
        if self._beds and self._rng.random() < self._recipe.recorded_bed:
            bed, frames = self._beds[int(self._rng.integers(len(self._beds)))], self._spec.frames
            if bed.known is None:
                start = int(self._rng.integers(0, max(1, bed.decibels.shape[1] - frames)))
            else:
                window = int(self._rng.integers(len(bed.known.truth)))
                lay(bed.known, window, truth, weight)
                start = window * frames
            return self._whole(self._varied(_power(bed.decibels[:, start : start + frames])))
        return self._noise()

    def _whole(self, power: Float32) -> Float32:
        """A bed that fills the window: its beginning again where it is too short."""
        if power.shape[1] < self._spec.frames:
            power = np.resize(power.T, (self._spec.frames, power.shape[0])).T
        return np.asarray(power[:, : self._spec.frames], np.float32)

    def _noise(self) -> Float32:
        """Rain, wind, stream, hum and crackle: noise of a random spectrum with random swells and drops, (n_mels, frames)."""
        rng, spec = self._rng, self._spec
        bands, frames = spec.n_mels, spec.frames
        knots = np.interp(np.arange(bands), np.linspace(0, bands - 1, 7), rng.normal(0, 8, 7))
        spectrum = knots + rng.normal(0, 8) * np.linspace(1, -1, bands)
        for _ in range(rng.integers(0, 4)):  # insects, hum: narrow bands
            centre, width = rng.uniform(0, bands), rng.uniform(0.7, 4)
            spectrum = spectrum + rng.exponential(8) * np.exp(-0.5 * ((np.arange(bands) - centre) / width) ** 2)
        swell = np.interp(np.arange(frames), np.linspace(0, frames - 1, 6), rng.normal(0, rng.uniform(0, 3), 6))
        # A band of n spectral bins in frames that overlap is chi-square with about 2n degrees: the low bands flicker.
        bins = np.maximum(self._bands[:, 0] * spec.n_fft / spec.sample_rate, 1.0)
        grain = rng.standard_gamma(np.repeat(bins[:, None], frames, axis=1).astype(np.float32), dtype=np.float32) / bins[:, None]
        grain = gaussian_filter1d(grain, 0.8, axis=1)
        power = grain * 10 ** ((spectrum[:, None] + swell[None, :]) / 10)
        if rng.random() < 0.4:  # drops and crackle: all bands at once, for an instant
            drops = (rng.random(frames) < rng.uniform(0.005, 0.15)) * rng.exponential(10 ** rng.uniform(0, 1.5), frames)
            power = power * (1 + gaussian_filter1d(drops, 0.6))[None, :]
        return np.asarray(power, np.float32)

    def _scaled(self, power: Float32) -> Float32:
        decibels = 10.0 * np.log10(np.maximum(power, SILENCE_POWER))
        return np.asarray(np.maximum(1.0 + (decibels - decibels.max()) / np.float32(self._spec.top_db), 0.0), np.float32)

    def _masked(self, window: Float32) -> Float32:
        rng = self._rng
        for axis, longest in ((0, 12), (1, 32)):
            for _ in range(rng.integers(0, self._recipe.masks + 1)):
                width = int(rng.integers(1, longest + 1))
                start = int(rng.integers(0, window.shape[axis] - width))
                stripe = (slice(start, start + width), slice(None))
                window[stripe if axis == 0 else stripe[::-1]] = window.mean()
        return window


def _power(decibels: npt.NDArray[np.float16]) -> Float32:
    return np.asarray(np.power(10.0, decibels.astype(np.float32) / 10), np.float32)
