"""Whether a retraining has shown to be worth something: the paired difference, how sure it is, and what it would take to be surer."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from trainer.evaluation import evaluate

Bool = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.floating]
LEAST = 2
"""Recordings: of one alone nothing can be drawn again."""


@dataclass(frozen=True)
class Verdict:
    """The retrained release beside the champion on the same windows, in macro mAP; `low` to `high` holds the difference with 95 %."""

    champion: float
    retrained: float
    difference: float
    low: float
    high: float
    windows: int
    recordings: int
    classes: int
    """That have a window and lack one: the others cannot be scored."""

    @property
    def above_0(self) -> bool:
        """Whether the whole interval is."""
        return self.low > 0

    @property
    def below_0(self) -> bool:
        """Whether the whole interval is."""
        return self.high < 0

    @property
    def shortfall(self) -> float:
        """How far the interval reaches below 0; 0 if it does not."""
        return max(0.0, -self.low)

    @property
    def needed(self) -> int | None:
        """Recordings with which this difference would lie above 0, roughly: an interval narrows with their square root.

        None where the difference is none: more recordings would only show that.
        """
        if self.difference <= 0:
            return None
        return max(self.recordings, math.ceil(self.recordings * ((self.difference - self.low) / self.difference) ** 2))


def judged(truth: Bool, champion: Floats, retrained: Floats, recordings: npt.NDArray[np.str_]) -> Verdict | None:
    """From truth and scores (rows, labels) and the recording of each row; None where nothing can be scored, or with one recording."""
    if len(np.unique(recordings)) < LEAST:
        return None
    found = evaluate.difference(truth, retrained, champion, recordings, evaluate.INTERVAL)
    if found is None:
        return None
    before, after = (float(np.nanmean(evaluate.ap_by_class(truth, scores))) for scores in (champion, retrained))
    classes = int(evaluate.scorable(truth).sum())
    return Verdict(before, after, found.mean, found.low, found.high, len(truth), found.groups, classes)


def gained(found: Verdict | None) -> str:
    """What the later recordings show, in one sentence."""
    if found is None:
        return "not shown: the later recordings hold nothing that can be scored, n = 0; the data needs more recordings."
    n = f"n = {found.windows} windows of {found.recordings} recordings, {found.classes} classes"
    interval = f"95 % interval {found.low:+.3f} to {found.high:+.3f}, {n}"
    if found.above_0:
        return f"above 0: macro mAP {found.difference:+.3f} on recordings that neither has heard ({interval})."
    if found.needed is None:
        more = "the difference itself is not above 0, which more recordings would not mend"
    else:
        more = f"at this difference about {found.needed} recordings would be needed"
    return f"not shown: {interval}, shortfall {found.shortfall:.3f}; {more}."


def lost(found: Verdict | None) -> str:
    """What the base's validation clips show of forgetting, in one sentence."""
    if found is None:
        return "base: not measured; the older recordings keep no clips for validation (a species needs 7 recordings)."
    interval = f"{found.difference:+.3f}, 95 % interval {found.low:+.3f} to {found.high:+.3f}"
    if found.below_0:
        return f"base: down, macro mAP {interval}."
    return f"base: {'not down' if found.difference >= 0 else 'no loss shown'}, macro mAP {interval}."
