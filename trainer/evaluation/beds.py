"""Noise to try a release with: five seconds of still air, rain, wind, stream or insects, made from numbers alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
from scipy import fft

from soundscape.audio import SAMPLE_RATE, WINDOW_S
from soundscape.features import Float32

LENGTH = int(WINDOW_S * SAMPLE_RATE)
BED_RMS = 0.02


def _coloured(rng: np.random.Generator, hertz: Sequence[float], decibels: Sequence[float]) -> npt.NDArray[np.float64]:
    """Noise whose spectrum follows `decibels` at `hertz` (straight over log frequency), RMS 1."""
    spectrum = fft.rfft(rng.standard_normal(LENGTH))
    bins = np.log2(np.maximum(fft.rfftfreq(LENGTH, 1 / SAMPLE_RATE), 20.0))
    noise = fft.irfft(spectrum * 10 ** (np.interp(bins, np.log2(hertz), decibels) / 20), LENGTH)
    return np.asarray(noise / np.sqrt(np.mean(noise**2)))


def _still(rng: np.random.Generator) -> npt.NDArray[np.float64]:
    return _coloured(rng, (20, 500, 16_000), (0, -6, -24))


def _rain(rng: np.random.Generator) -> npt.NDArray[np.float64]:
    """Hiss, and drops near by: clicks that ring for some milliseconds."""
    drops = np.where(rng.random(LENGTH) < 60 / SAMPLE_RATE, rng.exponential(1.0, LENGTH), 0.0)
    ring = np.exp(-np.arange(256) / 40) * np.sin(2 * np.pi * rng.uniform(1500, 5000) * np.arange(256) / SAMPLE_RATE)
    drops = np.convolve(drops, ring)[:LENGTH]
    return _coloured(rng, (20, 300, 2000, 16_000), (-20, -12, 0, -4)) + 1.5 * drops / max(1e-9, float(np.sqrt(np.mean(drops**2))))


def _wind(rng: np.random.Generator) -> npt.NDArray[np.float64]:
    gusts = 10 ** (np.interp(np.linspace(0, 6, LENGTH), np.arange(7), rng.normal(0, 6, 7)) / 20)
    return np.asarray(_coloured(rng, (20, 80, 400, 2000, 16_000), (0, 0, -14, -34, -54)) * gusts)


def _stream(rng: np.random.Generator) -> npt.NDArray[np.float64]:
    return _coloured(rng, (20, 200, 800, 3000, 16_000), (-18, -4, 0, -8, -20))


def _insects(rng: np.random.Generator) -> npt.NDArray[np.float64]:
    """Two choirs: narrow bands that pulse without end."""
    out = 0.05 * _still(rng)
    t = np.arange(LENGTH) / SAMPLE_RATE
    for pitch in rng.uniform(3500, 9500, 2):
        band = _coloured(rng, (20, pitch * 0.9, pitch, pitch * 1.1, 16_000), (-80, -60, 0, -60, -80))
        out = out + band * (0.55 + 0.45 * np.sin(2 * np.pi * rng.uniform(12, 45) * t + rng.uniform(0, 6)))
    return np.asarray(out)


def _made(make: Callable[[np.random.Generator], npt.NDArray[np.float64]]) -> Callable[[np.random.Generator], Float32]:
    """The same at the level of a bed."""

    def bed(rng: np.random.Generator) -> Float32:
        noise = make(rng)
        return np.asarray(noise * BED_RMS / np.sqrt(np.mean(noise**2)), np.float32)

    return bed


BEDS: dict[str, Callable[[np.random.Generator], Float32]] = {
    "still air": _made(_still), "rain": _made(_rain), "wind": _made(_wind), "stream": _made(_stream), "insects": _made(_insects),
}  # fmt: skip
"""By name: five seconds of noise, float32 (samples,), RMS BED_RMS. Over still air a call is merely weak."""
