"""What a first training knows and what comes later: the older recordings of each species, and of the newer ones those learnt from and
those judged on; no recording on two sides."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from trainer.data.catalog import Clip

OLDER, NEW, LATER = "older", "new", "later"
NEWER = 0.3
"""Of a species' recordings, the newest: half of them NEW, to be learnt from, the other half LATER, to judge on."""


@dataclass(frozen=True)
class TimeSplit:
    """OLDER, NEW or LATER of every clip."""

    sides: dict[str, str]
    """By the clip's file name."""
    recordings: dict[str, int]
    """How many each side has."""
    undated: int
    """Recordings without a date; they took their place in time by the hash of their id."""


def time_split(clips: Sequence[Clip], placed: Collection[str], newer: float = NEWER) -> TimeSplit:
    """Split by time, the same for the same clips: `newer` of each species' recordings, the newest, come after the others.

    A recording without a date stands in for one of any time: by the hash of its id. One in several species' folders is on one side in
    all of them (rare species choose first). Recordings in `placed`, heard in labelled soundscapes, are never learnt from, so the newer
    ones among them are LATER.
    """
    when = _places(clips)
    by_species: dict[str, set[str]] = defaultdict(set)
    for clip in clips:
        by_species[clip.labels[0]].add(clip.recording)
    sides: dict[str, str] = {}
    more = True  # which half takes the odd one: in turns, for most species have few
    for _, own in sorted(by_species.items(), key=lambda item: (len(item[1]), item[0])):
        wanted = round(newer * len(own)) - sum(sides.get(one, OLDER) != OLDER for one in own)
        undecided = sorted(own - sides.keys(), key=lambda one: when[one], reverse=True)
        newest = undecided[: max(0, wanted)]
        half = (len(newest) + more) // 2
        more ^= bool(len(newest) % 2)
        learnt = sorted((one for one in newest if one not in placed), key=_hash)[:half]
        sides |= dict.fromkeys(undecided, OLDER) | dict.fromkeys(newest, LATER) | dict.fromkeys(learnt, NEW)
    counts = {side: sum(one == side for one in sides.values()) for side in (OLDER, NEW, LATER)}
    dated = {clip.recording for clip in clips if clip.date is not None}
    return TimeSplit({clip.filename: sides[clip.recording] for clip in clips}, counts, len(sides) - len(dated))


def _places(clips: Sequence[Clip]) -> dict[str, tuple[float, str]]:
    """Where each recording lies among those of the folder, from 0 (the oldest) to 1: by its date, without one by its hash."""
    days: dict[str, int] = {}
    for clip in clips:
        if clip.date is not None:
            days[clip.recording] = min(clip.date.toordinal(), days.get(clip.recording, clip.date.toordinal()))
    ranks = {day: n for n, day in enumerate(sorted(days.values()))}  # of equal days the last: a monotone place, and no ties but these
    return {
        one: (ranks[days[one]] / len(days) if one in days else int.from_bytes(_hash(one)[:8]) / 2**64, one)
        for one in {clip.recording for clip in clips}
    }


def _hash(recording: str) -> bytes:
    return hashlib.sha256(recording.encode()).digest()
