"""What a decoding child does with a clip's body: sound or uploaded log-mels to the features that a release's members want."""

from __future__ import annotations

import time
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from soundscape.audio import WINDOW_S, decode, window_starts
from soundscape.errors import Invalid, Reason
from soundscape.features import LOG_MEL, FeatureSpec
from soundscape.log_mels import read_log_mels

Float32 = npt.NDArray[np.float32]

SILENCE = 1e-5
"""Peak of a silent window: -100 dB of full scale, a third of one step of 16-bit sound."""


class Extracted(NamedTuple):
    """Features by fingerprint, float32 (windows, *shape); which windows are silent; seconds since the epoch when each stage ended."""

    features: dict[str, Float32]
    silent: list[bool]
    decoded: float
    computed: float


def from_sound(body: bytes, specs: tuple[FeatureSpec, ...]) -> Extracted:
    """Decode once and compute each spec once. Raises Invalid as `soundscape.audio.decode`."""
    wave = decode(body)
    decoded = time.time()
    length = int(WINDOW_S * LOG_MEL.sample_rate)
    starts = [int(start * LOG_MEL.sample_rate) for start in window_starts(wave.size)]
    silent = [bool(np.abs(wave[start : start + length]).max(initial=0.0) <= SILENCE) for start in starts]
    return Extracted({spec.fingerprint: spec.compute(wave) for spec in specs}, silent, decoded, time.time())


def from_log_mels(body: bytes, fingerprint: str, specs: tuple[FeatureSpec, ...]) -> Extracted:
    """Log-mels that a client computed: `.npy`, float16 (windows, n_mels, frames) in [0, 1].

    Raises Invalid: unknown-features for a fingerprint that the release does not name, bad-features for anything else.
    """
    known = {spec.fingerprint: spec for spec in specs if spec.kind == "log-mel"}
    if fingerprint not in known:
        named = ", ".join(known) or "none: it takes sound"
        raise Invalid(Reason.UNKNOWN_FEATURES, f"The features are {fingerprint}; the site's release takes {named}. Send sound, or those.")
    mels = read_log_mels(body, known[fingerprint]).astype(np.float32)
    now = time.time()
    return Extracted({fingerprint: mels}, [not window.any() for window in mels], now, now)


def warm_up() -> None:
    """Meet each library once, so that the first clip does not pay for it."""
    import librosa.filters  # noqa: F401
    import scipy.fft  # noqa: F401
    import soundfile  # noqa: F401
    import soxr  # noqa: F401

    LOG_MEL.compute(np.zeros(int(WINDOW_S * LOG_MEL.sample_rate), np.float32))
