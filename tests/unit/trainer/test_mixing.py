"""Composed windows and what they claim."""

from __future__ import annotations

import numpy as np
import pytest

from soundscape.features import LOG_MEL, band_widths, mel_power
from trainer.testing import VOICES, call
from trainer.training.mixing import Mixer, Recipe, Source

PLAIN = Recipe(clean=0.0, masks=0, shift_bands=0.0, stretch=0.0, equaliser_db=0.0)


def _source(label: str, columns: tuple[int, ...], seconds: float = 6.0) -> Source:
    power = mel_power(call(label, seconds, np.random.default_rng(1), noise=1e-4))
    return Source((10 * np.log10(np.maximum(power, 1e-10))).astype(np.float16), columns)


def _mixer(recipe: Recipe, columns: tuple[int, ...] = (0,)) -> Mixer:
    clips = [_source("10", columns), _source("2", (1,))]
    return Mixer(clips, [], 3, np.random.default_rng(3), recipe)


@pytest.mark.parametrize("recipe", [Recipe(), PLAIN, Recipe(clean=1.0)])
def test_windows_look_as_they_are_served(recipe: Recipe) -> None:
    mixer = _mixer(recipe)
    for _ in range(20):
        window, truth, weight = mixer.window()
        assert window.shape == LOG_MEL.shape and window.dtype == np.float32
        assert np.isfinite(window).all() and window.min() >= 0.0 and window.max() <= 1.0
        assert set(truth.tolist()) <= {0.0, 1.0} and set(weight.tolist()) <= {0.0, 1.0}


def test_a_call_is_claimed_if_and_only_if_it_was_placed() -> None:
    loud = Recipe(**{**PLAIN.__dict__, "calls": (0.5, 0.5), "snr_db": (30.0, 30.0), "call_s": (3.0, 3.0)})
    mixer, pitch = _mixer(loud), VOICES["2"][0]
    from librosa import mel_frequencies

    band = int(np.abs(mel_frequencies(n_mels=130, fmin=20, fmax=16000)[1:-1] - pitch).argmin())
    there: list[float] = []
    not_there: list[float] = []
    for _ in range(60):
        window, truth, _ = mixer.window()
        peak = float(window[band - 3 : band + 4].max())
        (there if truth[1] else not_there).append(peak)
    assert min(there) > 0.95  # 30 dB above everything else, it is the loudest point
    assert len(not_there) > 20


def test_a_species_that_may_be_in_the_part_or_not_weighs_nothing() -> None:
    mixer = _mixer(Recipe(clean=1.0), columns=(0, 2))
    drawn = [mixer.window() for _ in range(20)]
    of_first = [(truth, weight) for _, truth, weight in drawn if truth[0]]
    assert of_first and all(weight[2] == 0.0 and truth[2] == 0.0 for truth, weight in of_first)
    assert all(weight[2] == 1.0 for _, truth, weight in drawn if not truth[0])


def test_rare_species_are_drawn_more_often_than_their_share() -> None:
    clips = [_source("10", (0,))] * 25 + [_source("2", (1,))]
    mixer = Mixer(clips, [], 2, np.random.default_rng(0), Recipe(clean=1.0, rarity=0.5))
    drawn = np.stack([mixer.window()[1] for _ in range(300)])
    assert drawn.mean(axis=0)[1] == pytest.approx(1 / 6, abs=0.08)  # 1 / (5 + 1), where its share is 1 / 26


@pytest.mark.parametrize("pitch", [400.0, 3000.0, 12000.0])
def test_the_signal_to_noise_ratio_is_that_of_the_sound(pitch: float) -> None:
    rng = np.random.default_rng(4)
    tone = (0.1 * np.sin(2 * np.pi * pitch * np.arange(5 * 32_000) / 32_000)).astype(np.float32)
    noise = rng.normal(0, 0.05, tone.size).astype(np.float32)
    widths = band_widths(LOG_MEL)[:, None]
    in_sound = 10 * np.log10(np.mean(tone**2) / np.mean(noise**2))
    in_mel = 10 * np.log10((mel_power(tone) * widths).sum() / (mel_power(noise) * widths).sum())
    assert in_mel == pytest.approx(in_sound, abs=1.0)
