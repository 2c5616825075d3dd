"""Honest live quality: what the completed prefix of the random sample says of the answers that people saw. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import date
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.stats import binomtest

from soundscape.confidence import counts
from soundscape.events import ClipAnalysed
from soundscape.fuse import DIGITS
from soundscape.judgements import Settled

BINS = 10
"""Of the reliability table: scores by tenths."""
ENOUGH = 10
"""Detections a label, on average, before a species mix is compared: of fewer the index is large by chance alone."""
ENOUGH_SCORES = 200
"""Scores of either side before they are compared: ten bins of these differ by about 0.1 by chance alone."""
Interval = tuple[float, float]


@dataclass(frozen=True)
class Sample:
    """A clip of the random stratum: where it stands in hash order, and the stretch that labelers were given."""

    clip_id: str
    day: date
    order: float
    release: str
    start_s: float
    answer_place: str | None


@dataclass(frozen=True)
class Heard:
    """What the release said of that stretch."""

    named: frozenset[str]
    scores: Mapping[str, float]
    known: frozenset[str]
    """The labels that the answer lists: of no other can it be said that they were missed."""


@dataclass(frozen=True)
class Rate:
    """A share with its 95 % interval (Wilson)."""

    value: float | None
    n: int
    interval: Interval | None

    @classmethod
    def of(cls, hits: int, n: int) -> Rate:
        """Of `n` cases."""
        if n == 0:
            return cls(None, 0, None)
        found = binomtest(hits, n).proportion_ci(method="wilson")
        return cls(hits / n, n, (float(found.low), float(found.high)))


@dataclass(frozen=True)
class SpeciesQuality:
    """One species under one release."""

    release: str
    label: str
    precision: Rate
    recall: Rate


@dataclass
class Quality:
    """What is known of a site."""

    sampled: int = 0
    completed: int = 0
    """Windows of the completed prefix: nothing else is counted."""
    withheld: Rate = field(default_factory=lambda: Rate(None, 0, None))
    """Share of the clips that the random stratum holds, but that were kept back (speech, mostly) or had gone."""
    withheld_by: dict[str, Rate] = field(default_factory=dict)
    """The same by reason: speech, denied, untold, other."""
    species: list[SpeciesQuality] = field(default_factory=list)
    overall: dict[str, tuple[Rate, Rate]] = field(default_factory=dict)
    """By release: precision and recall over all species."""
    reliability: list[tuple[float, float, Rate]] = field(default_factory=list)
    """(from, to, share of the scores in between that were right)."""


@dataclass(frozen=True)
class Drift:
    """How far something has moved from what the release learnt: a population stability index, or why it is not known."""

    psi: float | None = None
    unknown: str = ""


def completed_prefix(samples: Iterable[Sample], settled: Mapping[tuple[str, float], Settled]) -> list[tuple[Sample, Settled]]:
    """The samples of each day in hash order up to the first that no labeler has settled, with what they hold.

    What lies beyond was labelled out of turn: to count it would count what is easy to label.
    """
    by_day: dict[date, list[Sample]] = defaultdict(list)
    for sample in samples:
        by_day[sample.day].append(sample)
    found = []
    for day in sorted(by_day):
        for sample in sorted(by_day[day], key=lambda one: one.order):
            said = settled.get((sample.clip_id, sample.start_s))
            if said is None:
                break
            found.append((sample, said))
    return found


def judge(pairs: Iterable[tuple[Sample, Settled]], heard: Mapping[str, Heard]) -> Quality:
    """Precision, recall and reliability over the completed windows whose answer is known; `unknown` and `speech` say nothing of it."""
    quality = Quality()
    hits: dict[tuple[str, str], int] = defaultdict(int)
    named: dict[tuple[str, str], int] = defaultdict(int)
    there: dict[tuple[str, str], int] = defaultdict(int)
    scores: list[float] = []
    right: list[bool] = []
    for sample, said in pairs:
        quality.completed += 1
        answer = heard.get(sample.clip_id)
        if answer is None or said.verdict not in ("species", "nothing"):
            continue
        truth = said.labels
        for label in answer.named | (truth & answer.known):
            key = sample.release, label
            named[key] += label in answer.named
            there[key] += label in truth
            hits[key] += label in answer.named and label in truth
        for label, score in answer.scores.items():
            scores.append(score)
            right.append(label in truth)
    keys = sorted(named.keys() | there.keys())
    quality.species = [
        SpeciesQuality(*key, precision=Rate.of(hits[key], named[key]), recall=Rate.of(hits[key], there[key])) for key in keys
    ]
    for release in sorted({release for release, _ in keys}):
        own = [key for key in keys if key[0] == release]
        total = sum(hits[key] for key in own)
        quality.overall[release] = Rate.of(total, sum(named[key] for key in own)), Rate.of(total, sum(there[key] for key in own))
    quality.reliability = reliability(np.array(scores), np.array(right, bool))
    return quality


def reliability(scores: npt.NDArray[np.float64], right: npt.NDArray[np.bool_]) -> list[tuple[float, float, Rate]]:
    """How often a score of each tenth was right; float (n,) and bool (n,)."""
    which = np.minimum((scores * BINS).astype(int), BINS - 1) if len(scores) else np.array([], int)
    return [
        (n / BINS, (n + 1) / BINS, Rate.of(int(right[which == n].sum()), int((which == n).sum())))
        for n in range(BINS)
        if (which == n).any()
    ]


def drift_of_mix(learnt: Mapping[str, float] | None, found: Mapping[str, float], labels: int) -> Drift:
    """Of the species: how often each is named, beside how much of it the release learnt from."""
    if not learnt:
        return Drift(unknown="the release does not say what it learnt from")
    if (heard := int(sum(found.values()))) < ENOUGH * labels:
        return Drift(unknown=f"{heard} detections are too few for {labels} labels; {ENOUGH * labels} are enough")
    return Drift(stability(learnt, found))


def drift_of_scores(recorded: Mapping[str, Any] | None, found: Mapping[float, int]) -> Drift:
    """Of the scores of what was named (by score, how often), beside those that the release gave to what judged it when it was made."""
    if not recorded:
        return Drift(unknown="the release does not record its scores; one made by a later training does")
    learnt, heard = sum(recorded["counts"]), sum(found.values())
    if min(learnt, heard) < ENOUGH_SCORES:
        return Drift(unknown=f"{heard} scores now and {learnt} when it was made; from {ENOUGH_SCORES} each they are compared")
    now = counts(recorded["edges"], np.repeat(list(found.keys()), list(found.values())))
    before, after = ({str(n): float(count) for n, count in enumerate(one)} for one in (recorded["counts"], now))
    return Drift(stability(before, after))


def named_scores(answer: ClipAnalysed) -> list[float]:
    """The score of each window in which the answer names a species, before place and week lowered it: what met the threshold."""
    column = {label: n for n, label in enumerate(answer.labels)}
    found = []
    for one in answer.detections:
        n = column.get(one.label)
        weight = 1.0 if n is None or answer.weights is None else answer.weights[n]
        if n is None or not weight:
            continue
        scores = (window.scores[n] / weight for window in answer.windows if one.start_s <= window.start_s < one.end_s)
        found += [round(min(1.0, score), DIGITS) for score in scores]
    return found


def stability(expected: Mapping[str, float], found: Mapping[str, float]) -> float:
    """Population stability index of two distributions (counts by name): sum of (q - p) ln(q / p), each with half a case added."""
    labels = sorted(expected.keys() | found.keys())
    if not labels:
        return 0.0
    p, q = (np.array([mix.get(label, 0.0) + 0.5 for label in labels]) for mix in (expected, found))
    p, q = p / p.sum(), q / q.sum()
    return float(np.sum((q - p) * np.log(q / p)))
