"""What a model sees: the feature spec with its fingerprint, and the only code that computes log-mels."""

from __future__ import annotations

import hashlib
from functools import lru_cache
from typing import Literal

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field

from soundscape.audio import SAMPLE_RATE, WINDOW_S, resample, window_starts

Float32 = npt.NDArray[np.float32]

SILENCE_POWER = 1e-10
"""Mel power below which nothing is heard (librosa's `amin`): -100 dB, under the noise of any microphone at 16 bit."""
BANDS_AT_ONCE = 16
"""Mel bands in one matrix product; 8 to 32 cost the same."""
FRAMES_AT_ONCE = 160
"""Frames transformed at once: 1.3 MB of float32, which stay in the processor's cache."""


class FeatureSpec(BaseModel):
    """Everything that decides the numbers a model sees; two specs with one fingerprint give the same numbers.

    `log-mel`: Hann windows of `n_fft` samples every `hop` samples over the whole clip (reflected at its ends), power, Slaney mel
    bands, decibels, each window of the clip scaled by its own peak: `1 + max(dB - peak dB, -top_db) / top_db`, so that 1 is
    the window's loudest point, 0 is `top_db` below it, and gain changes nothing. Windows share frames: hop divides the window, so
    a minute costs one transform (docs/decisions/0002-features.md).

    `waveform`: the sound itself at `sample_rate`, `chunk_s` seconds from each of `chunk_starts_s` in the window.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["log-mel", "waveform"] = "log-mel"
    sample_rate: int = Field(SAMPLE_RATE, ge=8000, le=48000)
    window_s: float = Field(WINDOW_S, gt=0, le=30)
    n_fft: int = Field(2048, ge=256, le=8192)
    hop: int = Field(500, ge=64, le=4096)
    n_mels: int = Field(128, ge=16, le=256)
    fmin: float = Field(20.0, ge=0)
    fmax: float = Field(16000.0, gt=0)
    top_db: float = Field(80.0, gt=0)
    chunk_s: float = Field(3.0, gt=0)
    chunk_starts_s: tuple[float, ...] = (0.0, 2.0)

    @property
    def fingerprint(self) -> str:
        """Sixteen hex digits of SHA-256 over the canonical JSON of the spec."""
        return hashlib.sha256(self.model_dump_json().encode()).hexdigest()[:16]

    @property
    def frames(self) -> int:
        """Frames of one window."""
        return int(self.window_s * self.sample_rate) // self.hop

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one window's features: (n_mels, frames), or (chunks, samples) for sound."""
        if self.kind == "log-mel":
            return (self.n_mels, self.frames)
        return (len(self.chunk_starts_s), int(self.chunk_s * self.sample_rate))

    def compute(self, wave: Float32) -> Float32:
        """Features of a clip: float32 (windows, *shape), from mono float32 (samples,) at 32 kHz."""
        return log_mel(wave, self) if self.kind == "log-mel" else chunks(wave, self)


LOG_MEL = FeatureSpec()
"""The spec of our own models: 128 bands, 320 frames of 15.625 ms in 5 s."""


@lru_cache(maxsize=8)
def _mel_basis(spec: FeatureSpec) -> Float32:
    """Slaney mel filters, float32 (n_mels, n_fft // 2 + 1)."""
    from librosa.filters import mel

    basis: Float32 = mel(
        sr=spec.sample_rate, n_fft=spec.n_fft, n_mels=spec.n_mels, fmin=spec.fmin, fmax=spec.fmax, htk=False, norm="slaney"
    ).astype(np.float32)
    return basis


@lru_cache(maxsize=8)
def _mel_bands(spec: FeatureSpec) -> tuple[tuple[slice, slice, Float32], ...]:
    """The filters, a few bands at a time: which bands, which bins they hear, and their part of the basis, float32 (bands, bins).

    A band hears few of the bins: whole, nine tenths of the matrix product would multiply by zero (docs/decisions/0014-ceiling.md).
    """
    basis, parts = _mel_basis(spec), []
    for first in range(0, spec.n_mels, BANDS_AT_ONCE):
        bands = slice(first, first + BANDS_AT_ONCE)
        heard = np.flatnonzero(basis[bands].any(axis=0))
        bins = slice(int(heard[0]), int(heard[-1]) + 1) if heard.size else slice(0, 0)
        parts.append((bands, bins, np.ascontiguousarray(basis[bands, bins])))
    return tuple(parts)


@lru_cache(maxsize=8)
def _hann(n_fft: int) -> Float32:
    from scipy.signal import get_window

    window: Float32 = get_window("hann", n_fft, fftbins=True).astype(np.float32)
    return window


def log_mel(wave: Float32, spec: FeatureSpec = LOG_MEL) -> Float32:
    """Log-mels of every window of a clip: float32 (windows, n_mels, frames) in [0, 1], from mono float32 (samples,) at 32 kHz.

    Frame t is centred on sample t * hop of the clip, as librosa's `center=True, pad_mode="reflect"`; a last window that the clip
    does not fill is padded with zeros before the transform. A window in which nothing reaches SILENCE_POWER is all zeros.
    """
    windows = len(window_starts(wave.size))
    power = mel_power(_padded(wave, windows), spec)[:, : windows * spec.frames]
    decibels = 10.0 * np.log10(np.maximum(power, SILENCE_POWER))
    stacked = decibels.reshape(spec.n_mels, windows, spec.frames).transpose(1, 0, 2)
    peak = stacked.max(axis=(1, 2), keepdims=True)
    scaled = np.maximum(1.0 + (stacked - peak) / np.float32(spec.top_db), 0.0)
    scaled[peak[:, 0, 0] <= 10.0 * np.log10(SILENCE_POWER)] = 0.0
    return np.ascontiguousarray(scaled, dtype=np.float32)


def mel_power(wave: Float32, spec: FeatureSpec = LOG_MEL) -> Float32:
    """Mel power of a whole wave: float32 (n_mels, 1 + samples // hop); librosa's `melspectrogram(power=2)` of the same settings."""
    from scipy.fft import rfft

    half = spec.n_fft // 2
    padded = np.pad(wave, half, mode="reflect" if wave.size > half else "constant")
    frames = np.lib.stride_tricks.sliding_window_view(padded, spec.n_fft)[:: spec.hop]
    parts, hann = _mel_bands(spec), _hann(spec.n_fft)
    out = np.empty((spec.n_mels, len(frames)), np.float32)
    for first in range(0, len(frames), FRAMES_AT_ONCE):
        spectrum = rfft(frames[first : first + FRAMES_AT_ONCE] * hann, axis=1)
        power = (spectrum.real**2 + spectrum.imag**2).T
        for bands, bins, weights in parts:
            np.matmul(weights, power[bins], out=out[bands, first : first + FRAMES_AT_ONCE])
    return out


def band_widths(spec: FeatureSpec = LOG_MEL) -> Float32:
    """Width of each mel band in Hz at half its height, float32 (n_mels,)."""
    from librosa import mel_frequencies

    edges = mel_frequencies(n_mels=spec.n_mels + 2, fmin=spec.fmin, fmax=spec.fmax, htk=False)
    return np.asarray((edges[2:] - edges[:-2]) / 2, np.float32)


def chunks(wave: Float32, spec: FeatureSpec) -> Float32:
    """Sound of every window at the spec's own rate: float32 (windows, chunks, chunk samples), from mono float32 at 32 kHz."""
    windows = len(window_starts(wave.size))
    sound = resample(_padded(wave, windows), SAMPLE_RATE, spec.sample_rate)
    per_window, length = int(spec.window_s * spec.sample_rate), spec.shape[1]
    sound = np.pad(sound, (0, max(0, windows * per_window - sound.size)))
    starts = [w * per_window + int(s * spec.sample_rate) for w in range(windows) for s in spec.chunk_starts_s]
    return np.stack([sound[s : s + length] for s in starts]).reshape(windows, *spec.shape)


def _padded(wave: Float32, windows: int) -> Float32:
    wanted = windows * int(WINDOW_S * SAMPLE_RATE)
    return np.pad(wave[:wanted], (0, max(0, wanted - wave.size)))
