"""A sample's sound as pictures of what the model sees: runs in a child process (soundscape.isolation)."""

from __future__ import annotations

import io
import math
from typing import NamedTuple

from soundscape.audio import SAMPLE_RATE, decode, encode_ogg, window_starts
from soundscape.features import LOG_MEL, FeatureSpec

TICKS_HZ = (250, 500, 1000, 2000, 4000, 8000, 16000)
"""Octaves that the page's frequency axis names."""


DARKEST = 0.2
"""Feature value that is drawn black: 64 dB under the window's peak, so that the colours go to what is heard."""


class Drawn(NamedTuple):
    """What there is to see of a sample."""

    seconds: float
    pictures: tuple[bytes, ...]
    """One PNG a window, low frequencies at the bottom: a pixel a band and frame of the model's own features."""


def draw(ogg: bytes) -> Drawn:
    """The spectrograms of all windows, at most 36 (soundscape.audio.MAX_SECONDS). Raises Invalid if the sound cannot be decoded."""
    from matplotlib.image import imsave

    wave = decode(ogg)
    pictures = []
    for window in LOG_MEL.compute(wave):
        out = io.BytesIO()
        imsave(out, window, cmap="magma", vmin=DARKEST, vmax=1.0, origin="lower", format="png")
        pictures.append(out.getvalue())
    assert len(pictures) == len(window_starts(wave.size))
    return Drawn(wave.size / SAMPLE_RATE, tuple(pictures))


def warm_up() -> None:
    """Let a child meet the libraries, so that the first sample does not wait for them."""
    import numpy as np

    draw(encode_ogg(np.zeros(SAMPLE_RATE, np.float32)))


def axis(spec: FeatureSpec = LOG_MEL) -> list[dict[str, float]]:
    """Where the frequencies of TICKS_HZ lie in a picture, from 0 at its bottom to 1 at its top."""
    low, high = _slaney(spec.fmin), _slaney(spec.fmax)
    places = {hz: ((_slaney(hz) - low) / (high - low) * (spec.n_mels + 1) - 0.5) / spec.n_mels for hz in TICKS_HZ}
    return [{"hz": hz, "at": round(min(1.0, at), 4)} for hz, at in places.items() if at >= 0]


def _slaney(hz: float) -> float:
    """Slaney's mel scale (Auditory Toolbox, 1998), as the features use it: linear to 1 kHz, 27 steps to each factor of 6.4 above."""
    return hz * 3 / 200 if hz < 1000 else 15 + 27 * math.log(hz / 1000) / math.log(6.4)
