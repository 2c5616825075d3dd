"""The stuff that voices are made of: single notes of tone, noise or throat, and their laying out in time."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import fft

from soundscape.audio import SAMPLE_RATE

RATE = SAMPLE_RATE
"""Samples a second of everything synthetic."""
HARSH_OCTAVES = (0.15, 0.4)
"""Width (standard deviation) of what harsh voices fill: stridulation and throats alike, so that it tells nobody."""


def samples(seconds: float) -> int:
    """How many samples that takes, at least one."""
    return max(1, round(seconds * RATE))


def hump(n: int, edge: float = 0.35) -> NDArray[np.float64]:
    """An envelope of `n` samples that is the same backwards: raised-cosine edges, flat between."""
    rise = max(1, int(n * edge))
    ramp = 0.5 - 0.5 * np.cos(np.pi * np.arange(rise) / rise)
    envelope = np.ones(n)
    envelope[:rise] = ramp
    envelope[n - rise :] = ramp[::-1]
    return envelope


def whistle(rng: np.random.Generator, contour_hz: NDArray[np.float64], edge: float = 0.2) -> NDArray[np.float64]:
    """A tone that follows a contour, with a little of its second and third harmonic."""
    phase = 2 * np.pi * np.cumsum(contour_hz) / RATE
    tone = np.sin(phase)
    for harmonic in (2, 3):
        if contour_hz.max() * harmonic < 0.45 * RATE:
            tone += rng.uniform(0, 0.25) / harmonic * np.sin(harmonic * phase)
    return tone * hump(len(tone), edge)


def lay(notes: list[NDArray[np.float64]], starts_s: list[float], gains: NDArray[np.float64] | None = None) -> NDArray[np.float32]:
    """Notes at their starts on one stretch of silence."""
    call = np.zeros(max(samples(at) + len(note) for at, note in zip(starts_s, notes, strict=True)), dtype=np.float64)
    for index, (at, note) in enumerate(zip(starts_s, notes, strict=True)):
        first = samples(at) if at > 0 else 0
        call[first : first + len(note)] += note * (1.0 if gains is None else gains[index])
    return call.astype(np.float32)


def band(rng: np.random.Generator, n: int, centre_hz: float, octaves: float) -> NDArray[np.float64]:
    """Noise with a bell-shaped spectrum on a scale of octaves, RMS about 1."""
    size = fft.next_fast_len(n, real=True)
    spectrum = fft.rfft(rng.standard_normal(size))
    hertz = np.maximum(fft.rfftfreq(size, 1 / RATE), 1.0)
    spectrum *= np.exp(-0.5 * (np.log2(hertz / centre_hz) / octaves) ** 2)
    noise: NDArray[np.float64] = fft.irfft(spectrum, size)[:n]
    return np.asarray(noise / (np.sqrt(np.mean(noise**2)) + 1e-12))


def throat(rng: np.random.Generator, contour_hz: NDArray[np.float64], centre_hz: float, width: float) -> NDArray[np.float64]:
    """A harsh harmonic stack (sawtooth and breath) through a resonance `width` octaves wide: a mammal's throat."""
    n = len(contour_hz)
    phase = np.cumsum(contour_hz) / RATE + rng.uniform()
    source = 2 * (phase % 1) - 1 + 0.3 * rng.standard_normal(n)
    size = fft.next_fast_len(n, real=True)
    spectrum = fft.rfft(source, size)
    hertz = np.maximum(fft.rfftfreq(size, 1 / RATE), 1.0)
    spectrum *= np.exp(-0.5 * (np.log2(hertz / centre_hz) / width) ** 2)
    sound: NDArray[np.float64] = fft.irfft(spectrum, size)[:n]
    return np.asarray(sound / (np.abs(sound).max() + 1e-12))
