from __future__ import annotations

import numpy as np
import pytest

from producers.beds import bed
from producers.notes import RATE
from producers.scenes import PEAK, Call, PlacedCall, Purpose, labels_of_rows, overlay, scene, seed_of
from producers.species import BY_LABEL


def test_the_same_seed_is_the_same_scene() -> None:
    wave, calls = scene((5, Purpose.STREAM, 1), 12.0)
    again, same = scene((5, Purpose.STREAM, 1), 12.0)
    assert wave.dtype == np.float32
    assert wave.shape == (12 * RATE,)
    assert np.array_equal(wave, again)
    assert calls == same


def test_another_purpose_is_another_scene() -> None:
    assert scene((5, Purpose.STREAM, 1), 12.0)[1] != scene((5, Purpose.MINUTE, 1), 12.0)[1]


def test_calls_lie_inside_and_in_order() -> None:
    wave, calls = scene(3, 30.0, calls_per_minute=40)
    assert len(calls) > 5
    assert calls == sorted(calls)
    assert all(0 <= call.start < call.end <= 30.0 and call.label in BY_LABEL for call in calls)
    assert float(np.abs(wave).max()) <= PEAK + 1e-6


def test_no_calls_leave_only_the_bed() -> None:
    wave, calls = scene(3, 5.0, calls_per_minute=0)
    assert calls == []
    assert np.array_equal(wave, bed(seed_of(3), 5 * RATE))


def test_a_species_calls_most_at_its_hour() -> None:
    dawn, noon = BY_LABEL["dawfin1"], BY_LABEL["9000203"]
    counts = {"dawfin1": 0, "9000203": 0}
    for seed in range(12):
        for call in scene(seed, 20.0, calls_per_minute=30, hour=dawn.peak_hour, inhabitants=[dawn, noon])[1]:
            counts[call.label] += 1
    assert counts["dawfin1"] > counts["9000203"]


@pytest.mark.parametrize("snr_db", [-5.0, 0.0, 12.0])
def test_overlay_places_at_the_asked_ratio(snr_db: float) -> None:
    rng = np.random.default_rng(0)
    background = (0.01 * rng.standard_normal(10 * RATE)).astype(np.float32)
    sound = np.sin(np.arange(2 * RATE) * 0.3).astype(np.float32)
    mix, (placed,) = overlay(background, [Call("x", sound, "x/XC1.ogg")], snr_db, rng)
    here = slice(round(placed.start * RATE), round(placed.end * RATE))
    ratio = np.mean((mix - background)[here] ** 2) / np.mean(background[here] ** 2)
    assert 10 * np.log10(ratio) == pytest.approx(snr_db, abs=0.1)
    assert placed.snr_db == snr_db
    assert placed.clip == "x/XC1.ogg"
    assert placed.end - placed.start == pytest.approx(2.0, abs=0.002)


def test_overlay_turns_a_loud_mix_down_as_a_whole() -> None:
    rng = np.random.default_rng(0)
    background = (0.3 * rng.standard_normal(RATE)).astype(np.float32)
    mix, _ = overlay(background, [Call("x", background.copy())], 20.0, rng)
    assert float(np.abs(mix).max()) == pytest.approx(PEAK, rel=1e-5)


def test_overlay_cuts_a_call_longer_than_the_background() -> None:
    rng = np.random.default_rng(0)
    background = (0.01 * rng.standard_normal(RATE)).astype(np.float32)
    mix, (placed,) = overlay(background, [Call("x", np.ones(3 * RATE, np.float32))], 3.0, rng)
    assert mix.shape == background.shape
    assert (placed.start, placed.end) == (0.0, 1.0)


def test_rows_follow_the_overlap_rule() -> None:
    calls = [
        PlacedCall(4.6, 7.0, "edge", 9.0),  # 0.4 s in the first row: not there
        PlacedCall(4.5, 4.8, "short", 9.0),  # shorter than the rule, but whole
        PlacedCall(9.5, 16.0, "long", 9.0),
    ]
    assert labels_of_rows(calls, 20.0) == [("short",), ("edge", "long"), ("long",), ("long",)]
