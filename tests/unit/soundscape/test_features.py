"""Log-mels held to librosa and torchaudio, and to what the docstring promises: frames, padding, gain, silence."""

from __future__ import annotations

from typing import Any

import librosa
import numpy as np
import pytest
import torch
import torchaudio

from soundscape.audio import SAMPLE_RATE, WINDOW_S, Float32
from soundscape.features import LOG_MEL, SILENCE_POWER, FeatureSpec, _hann, _mel_basis, log_mel, mel_power

WINDOW = int(WINDOW_S * SAMPLE_RATE)
AGREE_DB = 0.01
"""How far two implementations in float32 may differ, within the 80 dB below the peak."""


def scene(seconds: float, seed: int = 7) -> Float32:
    """Noise, a rising whistle and a click: mono float32 (samples,) with a range of levels."""
    rng, t = np.random.default_rng(seed), np.arange(int(seconds * SAMPLE_RATE)) / SAMPLE_RATE
    wave = rng.normal(0, 0.003, t.size) + 0.3 * np.sin(2 * np.pi * (1500 + 900 * t) * t) * (t % 1 < 0.4)
    if wave.size:
        wave[wave.size // 3] += 0.8
    return wave.astype(np.float32)


def by_librosa(wave: Float32) -> Float32:
    """Mel power by librosa: float32 (n_mels, frames)."""
    said: Float32 = librosa.feature.melspectrogram(
        y=wave, sr=SAMPLE_RATE, n_fft=LOG_MEL.n_fft, hop_length=LOG_MEL.hop, n_mels=LOG_MEL.n_mels, fmin=LOG_MEL.fmin,
        fmax=LOG_MEL.fmax, power=2.0, htk=False, norm="slaney", center=True, pad_mode="reflect",
    )  # fmt: skip
    return said


def by_torchaudio(wave: Float32) -> Float32:
    """Mel power by torchaudio: float32 (n_mels, frames)."""
    transform = torchaudio.transforms.MelSpectrogram(
        sample_rate=SAMPLE_RATE, n_fft=LOG_MEL.n_fft, hop_length=LOG_MEL.hop, n_mels=LOG_MEL.n_mels, f_min=LOG_MEL.fmin,
        f_max=LOG_MEL.fmax, power=2.0, mel_scale="slaney", norm="slaney", center=True, pad_mode="reflect",
    )  # fmt: skip
    said: Float32 = transform(torch.from_numpy(wave)).numpy()
    return said


def decibels(power: Float32) -> Float32:
    """dB, not lower than 80 below the peak."""
    said: Float32 = librosa.power_to_db(power, ref=np.max, amin=SILENCE_POWER, top_db=80.0)
    return said


@pytest.mark.parametrize("oracle", [by_librosa, by_torchaudio], ids=["librosa", "torchaudio"])
@pytest.mark.parametrize("seconds", [0.1, 5.0, 12.3])
def test_mel_power_is_that_of_the_libraries(oracle: Any, seconds: float) -> None:
    """The whole clip in one transform, within a hundredth of a decibel."""
    wave = scene(seconds)
    ours, theirs = decibels(mel_power(wave)), decibels(oracle(wave))
    assert ours.shape == theirs.shape
    assert np.abs(ours - theirs).max() < AGREE_DB


@pytest.mark.filterwarnings("ignore:Empty filters")
@pytest.mark.parametrize("spec", [LOG_MEL, FeatureSpec(n_fft=512, n_mels=200), FeatureSpec(fmin=500.0, fmax=8000.0, n_mels=40)])
def test_a_few_bins_of_a_band_are_all_that_it_hears(spec: FeatureSpec) -> None:
    """What the product leaves out is zero: as with the whole filters, also where the last bands are few, or some hear no bin at all."""
    from scipy.fft import rfft

    wave = scene(2.0)
    frames = np.lib.stride_tricks.sliding_window_view(np.pad(wave, spec.n_fft // 2, mode="reflect"), spec.n_fft)[:: spec.hop]
    power = np.abs(rfft(frames * _hann(spec.n_fft), axis=1)) ** 2
    np.testing.assert_allclose(mel_power(wave, spec), _mel_basis(spec) @ power.T, rtol=1e-4, atol=1e-12)


def test_log_mels_are_librosas_decibels_scaled_by_each_windows_peak() -> None:
    """1 is the window's loudest point, 0 is 80 dB below it."""
    wave = scene(10.0)
    wave[:WINDOW] *= 0.05  # the windows differ in level
    mels, power = log_mel(wave), by_librosa(wave)
    assert (mels.shape, str(mels.dtype)) == ((2, 128, 320), "float32")
    for n, window in enumerate(mels):
        expected = 1.0 + decibels(power[:, n * 320 : (n + 1) * 320]) / 80.0
        assert np.abs(window - expected).max() < AGREE_DB / 80.0
        assert (window.min(), window.max()) == (pytest.approx(0.0, abs=0.3), pytest.approx(1.0, abs=1e-6))


def test_windows_share_frames() -> None:
    """A minute is its windows, but for the frames that reach over a window's edge."""
    wave, reach = scene(15.0), LOG_MEL.n_fft // 2 // LOG_MEL.hop + 1
    whole = mel_power(wave)[:, 320:640]
    alone = mel_power(wave[WINDOW : 2 * WINDOW])[:, :320]
    np.testing.assert_allclose(whole[:, reach:-reach], alone[:, reach:-reach], rtol=1e-4, atol=1e-9)
    assert LOG_MEL.frames * LOG_MEL.hop == WINDOW, "no frame belongs to two windows"


@pytest.mark.parametrize("gain", [0.01, 0.5, 2.0])
def test_gain_changes_nothing(gain: float) -> None:
    """A guide nearer to the bird, or another microphone."""
    wave = scene(5.0)
    np.testing.assert_allclose(log_mel(wave * np.float32(gain)), log_mel(wave), atol=1e-3)


def test_silence_is_all_zeros_and_finite() -> None:
    """Digital silence, and a window of it beside one with sound."""
    assert not log_mel(np.zeros(WINDOW, np.float32)).any()
    mels = log_mel(np.concatenate([np.zeros(2 * WINDOW, np.float32), scene(5.0)]))
    assert not mels[0].any()
    assert mels[2].max() == pytest.approx(1.0)


@pytest.mark.parametrize("seconds", [0.05, 0.1, 1.0, 4.999, 5.2, 7.5, 60.0, 180.0])
def test_shape_and_range_of_any_length(seconds: float) -> None:
    """Finite, within [0, 1], one row a window, contiguous for the wire."""
    mels = log_mel(scene(seconds))
    assert mels.shape == (max(1, int(seconds // 5) + (seconds % 5 > 0.25)), *LOG_MEL.shape)
    assert np.isfinite(mels).all()
    assert mels.min() >= 0.0
    assert mels.max() <= 1.0 + 1e-6
    assert mels.flags.c_contiguous


def test_a_short_clip_is_padded_with_silence() -> None:
    """Where there is no sound there are zeros, and what sound there is stays at the window's beginning."""
    mels = log_mel(scene(1.0))[0]
    assert not mels[:, 70:].any()
    assert mels[:, :60].max() == pytest.approx(1.0)


def test_clipping_stays_finite() -> None:
    """A square wave at full scale."""
    mels = log_mel(np.sign(scene(5.0)))
    assert np.isfinite(mels).all()


def test_the_fingerprint_follows_every_field() -> None:
    """Two specs with one fingerprint give the same numbers, so no field may be left out; the same spec has the same one."""
    changed = {
        "kind": "waveform", "sample_rate": 16_000, "window_s": 3.0, "n_fft": 1024, "hop": 512, "n_mels": 64, "fmin": 50.0,
        "fmax": 15_000.0, "top_db": 60.0, "chunk_s": 2.0, "chunk_starts_s": (0.0,),
    }  # fmt: skip
    assert changed.keys() == FeatureSpec.model_fields.keys()
    prints = {LOG_MEL.model_copy(update={name: value}).fingerprint for name, value in changed.items()}
    assert len(prints | {LOG_MEL.fingerprint}) == len(changed) + 1
    assert FeatureSpec.model_validate_json(LOG_MEL.model_dump_json()).fingerprint == LOG_MEL.fingerprint


def test_our_own_spec_stands() -> None:
    """Models are trained on these numbers: another spec is another fingerprint, never an edit of this one."""
    assert (LOG_MEL.shape, LOG_MEL.hop, LOG_MEL.n_fft, LOG_MEL.fmin, LOG_MEL.fmax) == ((128, 320), 500, 2048, 20.0, 16_000.0)


def test_chunks_of_sound_at_another_rate() -> None:
    """BirdNET's: of each window, three seconds from 0 s and from 2 s at 48 kHz."""
    spec = FeatureSpec(kind="waveform", sample_rate=48_000)
    wave = np.sin(2 * np.pi * 1000 * np.arange(2 * WINDOW) / SAMPLE_RATE).astype(np.float32)
    found = spec.compute(wave)
    assert (found.shape, str(found.dtype)) == ((2, 2, 144_000), "float32")
    t = np.arange(144_000) / 48_000
    for window, chunk, start in ((0, 1, 2.0), (1, 0, 5.0)):
        expected = np.sin(2 * np.pi * 1000 * (t + start))
        np.testing.assert_allclose(found[window, chunk, 1000:-1000], expected[1000:-1000], atol=0.01)
