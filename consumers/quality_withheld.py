"""Which clips of the random stratum nobody was given to label, and why not: by the rate that the samples themselves record. Pure."""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Container, Iterable
from datetime import datetime
from typing import Literal, get_args

from consumers.quality_rules import Rate
from soundscape.events import ClipAnalysed
from soundscape.sampling import private, random_window, tells_speech, unit

Why = Literal["speech", "denied", "untold", "other"]
"""A voice in its window or beside it; a labeler heard one; the release cannot tell; or it was gone, unreadable or not yet cut."""


class Rates:
    """The rate at which clips were drawn, as it changed: each random sample records its own."""

    def __init__(self, recorded: Iterable[tuple[datetime, float]], now: float) -> None:
        """`recorded`: when a random sample was taken, and its probability; `now` is the rate where there is none."""
        self._recorded = sorted(recorded)
        self._now = now

    def at(self, moment: datetime) -> float:
        """The one in force then: of the last sample before it, else of the first."""
        if not self._recorded:
            return self._now
        return self._recorded[max(0, bisect_right(self._recorded, (moment, 1.0)) - 1)][1]


class Withheld:
    """The drawn clips among a site's answers, each with why it has no random sample; the latest answer of a clip counts."""

    def __init__(self, rates: Rates, sampled: Container[str], denied: Container[object], limit: float, untold: bool) -> None:
        """`limit` and `untold` are the operator's settings, as `soundscape.sampling` takes them."""
        self._rates, self._sampled, self._denied, self._limit, self._untold = rates, sampled, denied, limit, untold
        self._drawn: dict[str, Why | None] = {}

    def take(self, answer: ClipAnalysed) -> None:
        """Take in an answer; one without windows has nothing to draw."""
        clip = str(answer.clip_id)
        if answer.windows and unit(clip) < self._rates.at(answer.stages.predicted):
            self._drawn[clip] = None if clip in self._sampled else self._why(answer, clip)

    def _why(self, answer: ClipAnalysed, clip: str) -> Why:
        """In the order in which the sampler asks (stream_processors.sample_choose)."""
        if clip in self._denied:
            return "denied"
        if not tells_speech(answer):
            return "other" if self._untold else "untold"
        return "speech" if random_window(clip, len(answer.windows)) in private(answer, self._limit) else "other"

    def shares(self) -> dict[str, Rate]:
        """Of the clips that were drawn, by reason."""
        found = Counter(self._drawn.values())
        return {why: Rate.of(found[why], len(self._drawn)) for why in get_args(Why)}

    def share(self) -> Rate:
        """Of the clips that were drawn, for whatever reason."""
        return Rate.of(sum(why is not None for why in self._drawn.values()), len(self._drawn))
