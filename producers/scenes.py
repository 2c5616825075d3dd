"""Scenes of the synthetic forest with exact truth: which species calls, from when to when, and how loud over its bed."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from producers.beds import FARTHEST_M, NEAREST_M, bed, travel
from producers.notes import RATE
from producers.species import INHABITANTS, Inhabitant, individual

ROW_S = 5.0
"""Seconds in a row of `soundscape_labels.csv`."""
MIN_OVERLAP_S = 0.5
"""A row carries a species if a call lies in it for at least this long, or whole. The composed minutes of
real recordings that this project is tried on follow the same rule."""
CALLS_PER_MINUTE = 20.0
SNR_DB = (6.0, 22.0)
PEAK = 0.95
"""Full scale is never reached: a scene that would be louder is turned down as a whole."""


class Purpose(IntEnum):
    """What a scene is for, as part of its seed, so that nothing is shared between learning, judging and streaming."""

    FOCAL = 0
    MINUTE = 1
    STREAM = 2


@dataclass(frozen=True, order=True)
class PlacedCall:
    """One call in a scene. `start` and `end` are seconds of its direct sound, rounded to 1 ms; echoes outlast `end`.

    `snr_db` is the mean power of the call as it arrives, from `start` to `end`, over the mean power of the bed in the
    same stretch, all frequencies together; other calls do not count as bed. `clip` names a recording if it came from one.
    """

    start: float
    end: float
    label: str
    snr_db: float
    clip: str = ""


@dataclass(frozen=True)
class Call:
    """A call to be placed: its label, its sound (float32 mono, 32 kHz) and the recording it came from, if any.

    The first `direct` samples are the call itself (all of them unless given); what follows is its echo.
    """

    label: str
    wave: NDArray[np.float32]
    clip: str = ""
    direct: int | None = None


def seed_of(*numbers: int) -> np.random.Generator:
    """A generator for a tuple such as (seed, Purpose.STREAM, recorder, minute); other tuples share nothing with it."""
    return np.random.default_rng(np.random.SeedSequence([int(number) for number in numbers]))


def _place(canvas: NDArray[np.float32], background: NDArray[np.float32], call: Call, at: int, snr_db: float) -> PlacedCall:
    """Add a call to the canvas at sample `at`, `snr_db` above the background there."""
    wave = call.wave[: len(canvas) - at]
    direct = len(wave) if call.direct is None else min(call.direct, len(wave))
    here = slice(at, at + direct)
    noise = float(np.mean(np.square(background[here], dtype=np.float64)))
    power = float(np.mean(np.square(wave[:direct], dtype=np.float64)))
    canvas[at : at + len(wave)] += wave * np.float32(math.sqrt(max(noise, 1e-12) / max(power, 1e-20) * 10 ** (snr_db / 10)))
    return PlacedCall(round(at / RATE, 3), round((at + direct) / RATE, 3), call.label, round(snr_db, 1), call.clip)


def turned_down(wave: NDArray[np.float32]) -> NDArray[np.float32]:
    """The same wave, made quieter as a whole where its peak is above PEAK; every ratio in it stays."""
    peak = float(np.abs(wave).max(initial=0.0))
    return wave if peak <= PEAK else (wave * np.float32(PEAK / peak)).astype(np.float32)


def overlay(
    background: NDArray[np.float32], calls: Sequence[Call], snr_db: tuple[float, float] | float, rng: np.random.Generator
) -> tuple[NDArray[np.float32], list[PlacedCall]]:
    """Place each call once, at a random moment, over a background (float32 mono, 32 kHz), whole where it fits.

    `snr_db` is the signal-to-noise ratio as PlacedCall defines it, or a range to draw from. Over digital silence the noise
    counts as -120 dB of full scale. A call longer than the background is cut at its end.
    Returns the mix (never beyond full scale) and the calls by start.
    """
    low, high = (snr_db, snr_db) if isinstance(snr_db, (int, float)) else snr_db
    canvas = background.astype(np.float32, copy=True)
    placed = []
    for call in calls:
        at = int(rng.integers(0, max(1, len(canvas) - len(call.wave) + 1)))
        placed.append(_place(canvas, background, call, at, round(float(rng.uniform(low, high)), 1)))
    return turned_down(canvas), sorted(placed)


def heard(inhabitant: Inhabitant, rng: np.random.Generator, snr_db: tuple[float, float] = SNR_DB) -> tuple[Call, float]:
    """One call of a species from a random distance, and its SNR in dB: the farther, the fainter and duller."""
    far = rng.uniform()
    metres = NEAREST_M * (FARTHEST_M / NEAREST_M) ** far
    dry = individual(inhabitant, rng).call(rng)
    level = snr_db[1] - far * (snr_db[1] - snr_db[0])
    return Call(inhabitant.label, travel(dry, metres, rng), direct=len(dry)), round(float(level), 1)


def scene(
    seed: int | Sequence[int],
    duration_s: float = 60.0,
    *,
    calls_per_minute: float = CALLS_PER_MINUTE,
    snr_db: tuple[float, float] = SNR_DB,
    hour: float | None = None,
    inhabitants: Sequence[Inhabitant] = INHABITANTS,
) -> tuple[NDArray[np.float32], list[PlacedCall]]:
    """A stretch of forest: calls in bursts and lulls over a bed, the same for the same arguments.

    `seed` is a number or a tuple such as (seed, Purpose.STREAM, recorder, minute). `hour` (local, 0 to 24) makes the
    species of that hour call more; without it all are as likely. Returns the wave (float32, 32 kHz) and its calls by start.
    """
    rng = seed_of(*([seed] if isinstance(seed, int) else seed))
    n = max(1, round(duration_s * RATE))
    background = bed(rng, n)
    canvas = background.copy()
    weights = np.array([1.0 if hour is None else one.activity(hour) for one in inhabitants])
    lulls = rng.gamma(1.2, size=max(1, math.ceil(duration_s / ROW_S))) + 0.02
    placed = []
    for _ in range(rng.poisson(calls_per_minute * duration_s / 60)):
        who = inhabitants[int(rng.choice(len(inhabitants), p=weights / weights.sum()))]
        call, level = heard(who, rng, snr_db)
        burst = int(rng.choice(len(lulls), p=lulls / lulls.sum()))
        at = int((burst + rng.uniform(-0.3, 0.7)) * ROW_S * RATE)
        placed.append(_place(canvas, background, call, max(0, min(at, n - (call.direct or 0))), level))
    return turned_down(canvas), sorted(placed)


def labels_of_rows(calls: Iterable[PlacedCall], duration_s: float = 60.0) -> list[tuple[str, ...]]:
    """The sorted labels of each whole 5 s row, by the rule of MIN_OVERLAP_S."""
    rows: list[set[str]] = [set() for _ in range(int(duration_s / ROW_S + 1e-9))]
    for call in calls:
        for index, row in enumerate(rows):
            overlap = min(call.end, (index + 1) * ROW_S) - max(call.start, index * ROW_S)
            if overlap >= min(MIN_OVERLAP_S, call.end - call.start) - 1e-6:
                row.add(call.label)
    return [tuple(sorted(row)) for row in rows]
