"""Sound for the benchmarks: calls over noise that cost what a forest costs to decode; nothing in it is scored."""

from __future__ import annotations

import numpy as np

from soundscape.audio import SAMPLE_RATE, encode_ogg


def forest(seconds: float, seed: int) -> bytes:
    """OGG of that length: coloured noise with a sweep every second."""
    rng = np.random.default_rng(seed)
    samples = int(seconds * SAMPLE_RATE)
    spectrum = np.fft.rfft(rng.normal(0.0, 1.0, samples))
    noise = np.fft.irfft(spectrum / np.maximum(np.arange(spectrum.size), 50.0) ** 0.7, samples)
    t = np.arange(samples) / SAMPLE_RATE
    call = np.sin(2 * np.pi * (2000 + 300 * seed % 3000 + 1500 * (t % 1.0)) * t) * (t % 1.0 < 0.3)
    return encode_ogg((0.05 * noise / noise.std() + 0.1 * call).astype(np.float32))
