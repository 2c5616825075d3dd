from __future__ import annotations

import numpy as np
import pytest
from scipy.signal import stft

from producers.beds import air_loss_db, bed, travel
from producers.notes import RATE
from producers.species import BY_LABEL, INHABITANTS, Inhabitant, dialect, individual
from producers.voices import falling_whistles, rising_whistles
from soundscape.taxonomy import TAXA


@pytest.mark.parametrize("inhabitant", INHABITANTS, ids=lambda one: one.label)
def test_every_voice_is_a_sound_of_its_own_each_time(inhabitant: Inhabitant) -> None:
    rng = np.random.default_rng(1)
    animal = individual(inhabitant, rng)
    first, second = animal.call(rng), animal.call(rng)
    for call in (first, second):
        assert call.dtype == np.float32
        assert np.isfinite(call).all()
        assert 0.3 * RATE < len(call) < 6 * RATE
        assert 0.1 < float(np.abs(call).max()) < 4
    assert len(first) != len(second) or not np.array_equal(first, second)


def test_all_taxa_live_here_under_labels_of_their_own() -> None:
    assert len(INHABITANTS) >= 12
    assert {one.species.taxon for one in INHABITANTS} == set(TAXA)
    assert [one.label for one in INHABITANTS] == sorted(BY_LABEL)


def _ridge_slope(call: np.ndarray) -> float:
    hertz, _, spectrum = stft(call[: int(0.2 * RATE)], RATE, nperseg=1024)
    ridge = hertz[np.abs(spectrum).argmax(axis=0)][2:-2]
    return float(ridge[-1] - ridge[0])


def test_whistles_rise_and_fall() -> None:
    assert _ridge_slope(rising_whistles(np.random.default_rng(2), 2500.0, 1.0)) > 100
    assert _ridge_slope(falling_whistles(np.random.default_rng(2), 2500.0, 1.0)) < -100


def test_distance_dulls_a_call() -> None:
    loss = air_loss_db(np.array([1000.0, 8000.0]), 1000.0)
    assert loss == pytest.approx([4.7, 76.8], abs=1.0)  # dB/km, ISO 9613-1 at 20 °C and 70 %
    click = np.zeros(RATE // 10, np.float32)
    click[0] = 1.0
    near, far = (np.abs(np.fft.rfft(travel(click, metres, np.random.default_rng(0)), 8192)) for metres in (8.0, 120.0))
    assert far[3000:].mean() / far[:1000].mean() < near[3000:].mean() / near[:1000].mean()


def test_beds_differ_and_keep_their_level() -> None:
    one, other = (bed(np.random.default_rng(seed), 3 * RATE) for seed in (0, 1))
    for sound in (one, other):
        assert -48.1 <= 20 * np.log10(np.sqrt(np.mean(sound.astype(np.float64) ** 2))) <= -33.9
    assert not np.array_equal(one, other)


def test_a_dialect_moves_pitch_and_tempo_and_nothing_else() -> None:
    animal = individual(INHABITANTS[0], np.random.default_rng(1))
    higher, same = dialect(animal, 1.0), dialect(animal, 0.0)
    assert (higher.pitch_hz / animal.pitch_hz, higher.tempo / animal.tempo) == pytest.approx((2.0, 2**0.5))
    assert higher.inhabitant is animal.inhabitant and same == animal
