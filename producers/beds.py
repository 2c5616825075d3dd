"""What the forest adds to a call: beds of rain, wind, stream and insects, and the air and echo on the way to the recorder."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from scipy import fft

from producers.notes import RATE

NEAREST_M, FARTHEST_M = 8.0, 120.0
"""Distances of callers; nearer ones would be alone in the recording, farther ones would not be heard."""


def air_loss_db(hertz: NDArray[np.float64], metres: float) -> NDArray[np.float64]:
    """What air takes from each frequency, in dB: a fit to ISO 9613-1 at 20 °C and 70 % humidity (5 dB/km at 1 kHz, 77 at 8)."""
    kilohertz = hertz / 1000
    return metres * (0.004 * kilohertz + 0.0007 * kilohertz**2)


def travel(dry: NDArray[np.float32], metres: float, rng: np.random.Generator) -> NDArray[np.float32]:
    """A dry call as it arrives over `metres` of forest: absorbed, echoed by trunks, with a tail of reverberation.

    Returns float32 at 32 kHz, longer than `dry` by the tail; its level is left to whoever mixes it.
    """
    decay_s = rng.uniform(0.15, 0.5)
    tail_n = int(decay_s * RATE)
    at = np.arange(tail_n) / RATE
    far = math.log(metres / NEAREST_M) / math.log(FARTHEST_M / NEAREST_M)
    path = rng.standard_normal(tail_n) * np.exp(-6.9 * at / decay_s)
    path *= (0.08 + 0.35 * far) / math.sqrt(float(np.sum(path**2)))
    path[0] = 1.0
    for _ in range(rng.integers(0, 3)):
        path[int(rng.uniform(0.01, 0.1) * RATE)] += rng.uniform(0.1, 0.3) * rng.choice([-1.0, 1.0])
    size = fft.next_fast_len(len(dry) + tail_n, real=True)
    spectrum = fft.rfft(dry.astype(np.float64), size) * fft.rfft(path, size)
    spectrum *= 10 ** (-air_loss_db(fft.rfftfreq(size, 1 / RATE), metres) / 20)
    wet: NDArray[np.float32] = fft.irfft(spectrum, size)[: len(dry) + tail_n].astype(np.float32)
    return wet


def _coloured(rng: np.random.Generator, n: int, hertz: NDArray[np.float64], db: NDArray[np.float64]) -> NDArray[np.float64]:
    """Noise of `n` samples whose spectrum follows `db` at `hertz` (straight lines over log frequency), RMS 1."""
    size = fft.next_fast_len(n, real=True)
    spectrum = fft.rfft(rng.standard_normal(size, dtype=np.float32))
    bins = np.log2(np.maximum(fft.rfftfreq(size, 1 / RATE), 20.0))
    spectrum *= (10 ** (np.interp(bins, np.log2(hertz), db) / 20)).astype(np.float32)
    noise: NDArray[np.float64] = fft.irfft(spectrum, size)[:n].astype(np.float64)
    return noise / math.sqrt(float(np.mean(noise**2)) + 1e-20)


def _drift(rng: np.random.Generator, n: int, period_s: float, depth_db: float) -> NDArray[np.float64]:
    """A gain of `n` samples that wanders by `depth_db` (standard deviation) every `period_s`."""
    knots = max(4, int(n / RATE / period_s) + 3)
    return np.asarray(10 ** (np.interp(np.linspace(0, knots - 1, n), np.arange(knots), rng.normal(0, depth_db, knots)) / 20))


def rain(rng: np.random.Generator, n: int) -> NDArray[np.float64]:
    """Hiss, brightest at 1 to 6 kHz, with single drops."""
    knee = rng.uniform(1500, 6000)
    noise = _coloured(rng, n, np.array([50, knee, 15000]), np.array([rng.uniform(-25, -10), 0, rng.uniform(-25, -8)]))
    noise *= _drift(rng, n, 4.0, 1.5)
    drop = np.exp(-np.arange(320) / 60) * np.sin(2 * np.pi * rng.uniform(1500, 5000) * np.arange(320) / RATE)
    for at in rng.integers(0, max(1, n - 320), int(rng.uniform(0, 12) * n / RATE)):
        noise[at : at + 320] += rng.exponential(1.5) * drop[: n - at]
    return noise


def wind(rng: np.random.Generator, n: int) -> NDArray[np.float64]:
    """Low rumble and leaves, in gusts."""
    noise = _coloured(rng, n, np.array([30, 150, 800, 12000]), np.array([0, 0, rng.uniform(-30, -15), rng.uniform(-60, -35)]))
    return noise * _drift(rng, n, rng.uniform(1.5, 5.0), 4.0)


def stream(rng: np.random.Generator, n: int) -> NDArray[np.float64]:
    """Running water: steady noise around 500 to 2500 Hz that bubbles."""
    middle = rng.uniform(500, 2500)
    slopes = np.array([rng.uniform(-25, -10), 0, rng.uniform(-45, -20)])
    return _coloured(rng, n, np.array([60, middle, 14000]), slopes) * _drift(rng, n, 0.15, 1.5)


def insects(rng: np.random.Generator, n: int) -> NDArray[np.float64]:
    """A chorus nobody labels: some steady buzzing bands between 2.5 and 10 kHz."""
    seconds = np.arange(n) / RATE
    chorus = np.zeros(n)
    for _ in range(rng.integers(1, 4)):
        centre, width = rng.uniform(2500, 10000), rng.uniform(0.02, 0.08)
        band = _coloured(
            rng, n, centre * np.exp2(np.array([-9, -1, 0, 1, 9]) * width * 2), np.array([-70, -20, 0, -20, -70], dtype=np.float64)
        )
        buzz = 1 + rng.uniform(0, 0.5) * np.sin(2 * np.pi * rng.uniform(30, 90) * seconds)
        chorus += band * buzz * _drift(rng, n, 3.0, 1.5) * 10 ** (rng.uniform(-12, 0) / 20)
    return chorus


def bed(rng: np.random.Generator, n: int) -> NDArray[np.float32]:
    """`n` samples of background: each of rain, wind, stream and insects may be there, of its own strength and colour.

    Returns float32 at 32 kHz, RMS between -48 and -34 dB of full scale.
    """
    floor = _coloured(rng, n, np.array([30, 1000, 15000]), np.array([rng.uniform(0, 15), 0, rng.uniform(-15, 0)]))
    total = floor * 10 ** (-12 / 20)
    for layer, chance in ((rain, 0.45), (wind, 0.6), (stream, 0.4), (insects, 0.5)):
        if rng.uniform() < chance:
            total = total + layer(rng, n) * 10 ** (rng.uniform(-18, 0) / 20)
    total *= 10 ** (rng.uniform(-48, -34) / 20) / math.sqrt(float(np.mean(total**2)) + 1e-20)
    return total.astype(np.float32)
