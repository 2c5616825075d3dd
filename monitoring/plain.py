"""The yardstick of the bare loop: log-mels as anybody would compute them first. Nothing that answers a clip uses it."""

from __future__ import annotations

import numpy as np

from soundscape.audio import SAMPLE_RATE, WINDOW_S, Float32, window_starts
from soundscape.features import LOG_MEL, SILENCE_POWER


def by_librosa(wave: Float32) -> Float32:
    """The numbers of `LOG_MEL.compute` as librosa makes them, window by window; each window has edges of its own. Shapes as there."""
    import librosa

    length, windows = int(WINDOW_S * SAMPLE_RATE), []
    for n in range(len(window_starts(wave.size))):
        part = wave[n * length : (n + 1) * length]
        power = librosa.feature.melspectrogram(
            y=np.pad(part, (0, length - part.size)), sr=SAMPLE_RATE, n_fft=LOG_MEL.n_fft, hop_length=LOG_MEL.hop, n_mels=LOG_MEL.n_mels,
            fmin=LOG_MEL.fmin, fmax=LOG_MEL.fmax, power=2.0, htk=False, norm="slaney", center=True, pad_mode="reflect",
        )[:, : LOG_MEL.frames]  # fmt: skip
        windows.append(1.0 + librosa.power_to_db(power, ref=np.max, amin=SILENCE_POWER, top_db=LOG_MEL.top_db) / LOG_MEL.top_db)
    return np.stack(windows).astype(np.float32, copy=False)
