"""What is worth a labeler's time, where in the clip it shows, and what nobody may hear: pure rules over a clip's answer."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection
from dataclasses import dataclass
from itertools import combinations
from typing import Literal, NamedTuple
from uuid import UUID

import numpy as np

from soundscape.events import ClipAnalysed, Window
from soundscape.release import LoadedRelease

Reason = Literal["random", "flagged", "uncertain", "disagreement", "rare"]

MARGIN = 0.1
"""A score this near its threshold is uncertain; where the threshold is low, half of it: a score of 0 is never uncertain."""
CONFIDENT = 0.5
"""From this score on a member says that it hears a species."""
SPEECH = "speech"
"""The sound event of a voice in `Window.events`."""


def unit(clip_id: str | UUID) -> float:
    """Where a clip stands in [0, 1): a part of the SHA-256 of its id, the same for everybody and on every replay."""
    return int.from_bytes(_digest(clip_id)[:6]) / 2**48


def random_window(clip_id: str | UUID, windows: int) -> int:
    """The one window of a clip that the random sample takes, by another part of the same hash."""
    return int.from_bytes(_digest(clip_id)[6:14]) % windows


def _digest(clip_id: str | UUID) -> bytes:
    return hashlib.sha256(str(clip_id).encode()).digest()


class Wanted(NamedTuple):
    """A reason to sample a clip, the window where it shows most, and for `uncertain` how far the score lies from its threshold."""

    reason: Reason
    window: int
    margin: float = 0.0


@dataclass(frozen=True)
class Measure:
    """What a release's answers are read by: thresholds by label (none of sound events), what each member knows, rare labels."""

    thresholds: dict[str, float]
    knows: dict[str, frozenset[str]]
    rare: frozenset[str] = frozenset()
    """Those that the release's metrics list as `rare`, if they do."""

    @classmethod
    def of(cls, loaded: LoadedRelease) -> Measure:
        """The measure of a release."""
        release = loaded.release
        sounds = {label for labels in release.sound_events.values() for label in labels}
        thresholds = dict(zip(loaded.label_names, loaded.thresholds.tolist(), strict=True))
        rare = release.metrics.get("rare")
        return cls(
            {label: threshold for label, threshold in thresholds.items() if label not in sounds},
            {member.name: frozenset(member.labels) - sounds for member in release.members},
            frozenset(rare) if isinstance(rare, list) and all(isinstance(label, str) for label in rare) else frozenset(),
        )


def wanted(answer: ClipAnalysed, rate: float, measure: Measure | None, rare: Callable[[str], bool]) -> list[Wanted]:
    """Every reason that an answer gives, random first. Without the release's measure nothing is uncertain or disputed."""
    if not answer.windows:
        return []
    found: list[Wanted | None] = [
        Wanted("random", random_window(answer.clip_id, len(answer.windows))) if unit(answer.clip_id) < rate else None,
        uncertain(answer, measure) if measure else None,
        disagreement(answer, measure) if measure else None,
        rare_species(answer, rare),
    ]
    return [one for one in found if one is not None]


def uncertain(answer: ClipAnalysed, measure: Measure) -> Wanted | None:
    """The score before the prior that lies nearest its threshold, if it is within MARGIN. A silent window is certain."""
    if not answer.labels or not answer.windows:
        return None
    thresholds = np.array([measure.thresholds.get(label, np.nan) for label in answer.labels])
    scores = np.array([window.scores for window in answer.windows])
    weights = np.ones(len(answer.labels)) if answer.weights is None else np.array(answer.weights)
    weights[weights == 0] = np.nan  # what place and week took away whole cannot be had back
    margins = np.abs(scores / weights - thresholds)
    margins[~(margins < np.minimum(MARGIN, thresholds / 2))] = np.inf
    margins[[window.silent for window in answer.windows]] = np.inf
    window, label = np.unravel_index(int(margins.argmin()), margins.shape)
    margin = float(margins[window, label])
    return None if np.isinf(margin) else Wanted("uncertain", int(window), margin)


def disagreement(answer: ClipAnalysed, measure: Measure) -> Wanted | None:
    """The window in which two members name different species first, each CONFIDENT and doubting a species of the other's that it knows."""
    best: tuple[float, int] | None = None
    for n, window in enumerate(answer.windows):
        for one, other in combinations(sorted(window.members.keys() & measure.knows.keys()), 2):
            strength = _dispute(window, one, other, measure)
            if strength is not None and (best is None or strength > best[0]):
                best = strength, n
    return Wanted("disagreement", best[1]) if best else None


def _dispute(window: Window, one: str, other: str, measure: Measure) -> float | None:
    """How confident the less confident of two members is that differ; None where they do not."""
    mine, theirs = (
        {label: score for label, score in window.members[name].items() if label in measure.knows[name]} for name in (one, other)
    )
    if not mine or not theirs:
        return None
    top, their_top = max(mine, key=mine.__getitem__), max(theirs, key=theirs.__getitem__)
    known = top in measure.knows[other] and their_top in measure.knows[one]
    doubted = theirs.get(top, 0.0) < CONFIDENT and mine.get(their_top, 0.0) < CONFIDENT
    strength = min(mine[top], theirs[their_top])
    return strength if known and doubted and strength >= CONFIDENT else None


def rare_species(answer: ClipAnalysed, rare: Callable[[str], bool]) -> Wanted | None:
    """The most confident detection of a species that is rarely heard."""
    found = next((one for one in answer.detections if rare(one.label)), None)
    return Wanted("rare", _loudest(answer, {found.label}, found.start_s, found.end_s)) if found else None


def flagged(answer: ClipAnalysed, heard: Collection[str]) -> Wanted:
    """Where the answer names what the guide judged most clearly; where it names nothing, where it heard most."""
    return Wanted("flagged", _loudest(answer, set(heard) & set(answer.labels) or set(answer.labels)))


def _loudest(answer: ClipAnalysed, labels: set[str], start_s: float = 0.0, end_s: float = float("inf")) -> int:
    """The window between the two moments in which one of the labels scores highest."""
    columns = [n for n, label in enumerate(answer.labels) if label in labels]
    inside = [n for n, window in enumerate(answer.windows) if start_s <= window.start_s < end_s]
    return max(inside, key=lambda n: max((answer.windows[n].scores[column] for column in columns), default=0.0), default=0)


def tells_speech(answer: ClipAnalysed) -> bool:
    """Whether the release could tell a voice in this clip."""
    return any(SPEECH in window.events for window in answer.windows)


def voices(answer: ClipAnalysed, limit: float) -> frozenset[int]:
    """The windows in which a voice reaches the limit, or may. None where no voice can be told."""
    untold = 1.0 if tells_speech(answer) else 0.0
    return frozenset(n for n, window in enumerate(answer.windows) if window.events.get(SPEECH, untold) >= limit)


def private(answer: ClipAnalysed, limit: float) -> frozenset[int]:
    """The windows that nobody may hear: a voice reaches the limit there or next to them. None where no voice can be told."""
    loud = voices(answer, limit)
    return frozenset(near for n in loud for near in (n - 1, n, n + 1) if 0 <= near < len(answer.windows))


def part(want: Wanted, windows: int, withheld: Collection[int]) -> tuple[int, int] | None:
    """The windows to be heard, first and end: the one in question, with its neighbours that may be heard; at most three, so 15 s.

    A random one stands alone, since what is beside it was not drawn. None where the one in question is withheld.
    """
    if want.window in withheld:
        return None
    beside = () if want.reason == "random" else (want.window - 1, want.window + 1)
    heard = [want.window, *(n for n in beside if 0 <= n < windows and n not in withheld)]
    return min(heard), max(heard) + 1
