"""A candidate's trial: what it answered beside the champion and on its own streams, and whether that is enough, or an alarm. Pure."""

from __future__ import annotations

from collections import Counter, OrderedDict, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, NamedTuple, get_args

import numpy as np
from scipy.stats import fisher_exact
from scipy.stats import t as student

from soundscape.canary import role_of
from soundscape.events import Client, ClipAnalysed, FeedbackGiven, SiteDeployed

REMEMBERED = 5000
"""Clips of a trial that are kept for pairing, oldest forgotten first."""
LEAST_AGREEMENT = 0.35
"""Mean Jaccard index of what two releases name in the same clips, below which they do not hear the same forest. A retrained model that
differs in a third of its detections is at 0.5; labels rotated by one are near 0."""
FEW_PAIRS = 20
"""Clips in which one of both names something, before a disagreement is judged that leaves no doubt."""
NO_DOUBT = 0.001
"""One-sided: chance that the mean lies below LEAST_AGREEMENT by chance alone (Student's t); it is looked at again with every clip."""
MOST_FAILED = 0.05
"""Share of the canary's clips that the champion had to answer in the candidate's place."""
FEW_FAILED = 20
"""Canary clips before failures are judged."""
SPELL_S, SPELLS = 10, 3
"""Failures are held against a candidate once they lie in so many spells of so many seconds: a model server that restarts takes away both
models, and brings back one after the other within seconds."""
SLOWER = 2.0
"""Times the champion's 95th percentile, from publishing to prediction, that the candidate may take."""
SLOWER_BY_S = 0.1
"""And seconds above it: small numbers swing."""
FEW_TIMED = 50
SURE = 0.01
"""Fisher's exact test, one-sided: chance that guides reject the canary so much more often by chance alone."""
FEW_JUDGED = 10
DRIFTED = 1.0
"""Population stability index of the highest scores on the same clips: 0.25 is a shift, 1 another instrument."""
BINS = np.linspace(0.0, 1.0, 11)
NAMED = 10
"""Clips that an alarm names."""


@dataclass(frozen=True)
class Alarm:
    """Why a candidate goes, and the clips behind it."""

    kind: str
    says: str
    clips: tuple[str, ...]


class Said(NamedTuple):
    """What is kept of an answer: the labels that it names, with their taxa, and its highest score."""

    named: dict[str, str]
    top: float


@dataclass
class Pair:
    """What both releases said of one clip, as far as it has come."""

    champion: Said | None = None
    candidate: Said | None = None


@dataclass
class Trial:
    """One candidate of one site, since `state.since`. Fed with events in any order, and with the same ones again."""

    state: SiteDeployed
    shared: frozenset[str]
    """The labels that both releases know: no other is compared."""
    pairs: OrderedDict[str, Pair] = field(default_factory=OrderedDict)
    canary: dict[str, tuple[str, str | None]] = field(default_factory=dict)
    """Clips that the candidate answered for a guide: stream and kind of user."""
    failed: dict[str, int] = field(default_factory=dict)
    """Clips of its streams that the champion answered in its place, and the spell in which."""
    waits: dict[str, dict[str, float]] = field(default_factory=lambda: {"champion": {}, "canary": {}})
    """By role: seconds from publishing to prediction, by clip."""
    verdicts: dict[str, FeedbackGiven] = field(default_factory=dict)

    def answered(self, event: ClipAnalysed) -> None:
        """Take in an answer of `predictions` or `shadow-predictions`."""
        candidate = self.state.candidate
        if event.site != self.state.site or candidate is None or event.probe or event.run_id is not None:
            return
        if self.state.since is not None and event.stages.published < self.state.since:
            return
        clip, mine = str(event.clip_id), event.release_digest == candidate.digest
        if not mine and event.release_digest != self.state.champion.digest:
            return
        pair, said = self.pairs.setdefault(clip, Pair()), _said(event, self.shared)
        if mine:
            pair.candidate = said
        else:
            pair.champion = said
        if event.role == "canary" and mine:
            self.canary[clip] = event.stream, event.client
            self.failed.pop(clip, None)
        elif event.role == "champion" and clip not in self.canary and self._was_asked(event):
            self.failed[clip] = int(event.stages.predicted.timestamp()) // SPELL_S
        if event.role in self.waits and event.place.topic == "clips":
            self.waits[event.role][clip] = (event.stages.predicted - event.stages.published).total_seconds()
        while len(self.pairs) > REMEMBERED:
            self.pairs.popitem(last=False)

    def _was_asked(self, event: ClipAnalysed) -> bool:
        """Whether the stream is the candidate's, so that an answer of the champion stands in for it."""
        return event.generation >= self.state.generation and role_of(self.state, event.stream, event.tour_started_at) == "canary"

    def judged(self, event: FeedbackGiven) -> None:
        """Take in a guide's verdict."""
        if event.site == self.state.site:
            self.verdicts[event.feedback_id] = event

    @property
    def both(self) -> dict[str, tuple[Said, Said]]:
        """(champion, candidate) of the clips that both have answered."""
        return {clip: (pair.champion, pair.candidate) for clip, pair in self.pairs.items() if pair.champion and pair.candidate}

    def missing(self, clips: int, streams: int) -> list[str]:
        """What the trial still lacks before the candidate may be promoted; empty if nothing."""
        lacks = []
        if len(self.canary) < clips:
            lacks.append(f"{clips - len(self.canary)} more clips answered on the canary's streams ({len(self.canary)} of {clips})")
        heard = {stream for stream, _ in self.canary.values()}
        if len(heard) < streams:
            lacks.append(f"{streams - len(heard)} more streams ({len(heard)} of {streams})")
        users = {client for _, client in self.canary.values()}
        if absent := [user for user in get_args(Client) if user not in users]:
            lacks.append(f"clips of {', '.join(absent)} users")
        return lacks

    def alarms(self, least_pairs: int) -> list[Alarm]:
        """What speaks against the candidate now, most serious first."""
        found = [self._failures(), self._rejections(), self._disagreement(least_pairs), self._latency(), self._drift(least_pairs)]
        return [alarm for alarm in found if alarm is not None]

    def _failures(self) -> Alarm | None:
        asked = len(self.canary) + len(self.failed)
        if asked < FEW_FAILED or len(self.failed) / asked <= MOST_FAILED or len(set(self.failed.values())) < SPELLS:
            return None
        return _alarm("errors", f"the candidate failed {len(self.failed)} of {asked} clips", self.failed)

    def _rejections(self) -> Alarm | None:
        candidate = self.state.candidate
        sides: dict[bool, list[FeedbackGiven]] = {True: [], False: []}
        for verdict in self.verdicts.values():
            if verdict.verdict in ("right", "wrong", "species") and str(verdict.clip_id) in self.pairs:
                sides[candidate is not None and verdict.release == candidate.name].append(verdict)
        if len(sides[True]) < FEW_JUDGED or not sides[False]:
            return None
        rejected = {side: [one for one in given if one.verdict != "right"] for side, given in sides.items()}
        table = [[len(rejected[side]), len(sides[side]) - len(rejected[side])] for side in (True, False)]
        if float(fisher_exact(table, alternative="greater").pvalue) >= SURE:
            return None
        says = f"guides rejected {table[0][0]} of {len(sides[True])} of its answers, {table[1][0]} of {len(sides[False])} of the champion's"
        return _alarm("rejections", says, (str(one.clip_id) for one in rejected[True]))

    def _disagreement(self, least: int) -> Alarm | None:
        for taxon in (None, *sorted({of for pair in self.both.values() for said in pair for of in said.named.values()})):
            judged = {clip: value for clip, pair in self.both.items() if (value := agreement(*pair, taxon)) is not None}
            if len(judged) < min(least, FEW_PAIRS):
                continue
            mean = float(np.mean(list(judged.values())))
            if (mean if len(judged) >= least else _at_most(list(judged.values()))) < LEAST_AGREEMENT:
                break
        else:
            return None
        worst = sorted(judged, key=judged.__getitem__)
        taxa = ", ".join(f"{taxon} {value:.2f} (n={n})" for taxon, (value, n) in agreement_by_taxon(self.both.values()).items())
        where = f" of {taxon}" if taxon else ""
        says = f"it names what the champion names{where} in {mean:.2f} of the cases only"
        says += f" (n={len(judged)}; at least {LEAST_AGREEMENT}; {taxa})"
        return _alarm("disagreement", says, worst)

    def _latency(self) -> Alarm | None:
        mine, theirs = list(self.waits["canary"].values()), list(self.waits["champion"].values())
        if min(len(mine), len(theirs)) < FEW_TIMED:
            return None
        slow, usual = float(np.percentile(mine, 95)), float(np.percentile(theirs, 95))
        if slow <= SLOWER * usual + SLOWER_BY_S:
            return None
        worst = sorted(self.waits["canary"], key=self.waits["canary"].__getitem__, reverse=True)
        return _alarm("latency", f"its 95th percentile is {slow * 1000:.0f} ms, the champion's {usual * 1000:.0f} ms", worst)

    def _drift(self, least: int) -> Alarm | None:
        tops = [(old.top, new.top) for old, new in self.both.values()]
        if len(tops) < least or (shift := stability(*map(np.array, zip(*tops, strict=True)))) <= DRIFTED:
            return None
        return _alarm("drift", f"its highest scores lie elsewhere than the champion's: PSI {shift:.2f}, at most {DRIFTED:g}", ())

    def differences(self) -> list[dict[str, Any]]:
        """By species: clips in which both, only the champion, or only the candidate names it; the most different first."""
        counts: dict[str, Counter[str]] = defaultdict(Counter)
        clips: dict[str, list[str]] = defaultdict(list)
        for clip, (champion, candidate) in self.both.items():
            old, new = champion.named.keys(), candidate.named.keys()
            for label in old | new:
                where = "both" if label in old & new else "champion" if label in old else "candidate"
                counts[label][where] += 1
                if where != "both" and len(clips[label]) < NAMED:
                    clips[label].append(clip)
        rows = [
            {"label": label, **{where: found[where] for where in ("both", "champion", "candidate")}, "clips": clips[label]}
            for label, found in counts.items()
        ]
        return sorted(rows, key=lambda row: (-(row["champion"] + row["candidate"]), row["label"]))


def agreement(champion: Said, candidate: Said, taxon: str | None = None) -> float | None:
    """Jaccard index of what two releases name in a clip; None where neither names anything."""
    old, new = ({label for label, of in said.named.items() if taxon in (None, of)} for said in (champion, candidate))
    return len(old & new) / len(old | new) if old | new else None


def agreement_by_taxon(pairs: Iterable[tuple[Said, Said]]) -> dict[str, tuple[float, int]]:
    """Mean agreement and number of clips, by taxon."""
    given = list(pairs)
    out = {}
    for taxon in sorted({of for pair in given for said in pair for of in said.named.values()}):
        values = [value for pair in given if (value := agreement(*pair, taxon)) is not None]
        out[taxon] = float(np.mean(values)), len(values)
    return out


def _at_most(values: list[float]) -> float:
    """What the mean of these few lies below, but for NO_DOUBT."""
    return float(np.mean(values) + student.ppf(1 - NO_DOUBT, len(values) - 1) * np.std(values, ddof=1) / np.sqrt(len(values)))


def stability(expected: Any, found: Any) -> float:
    """Population stability index of two samples in [0, 1]: sum of (p - q) ln(p / q) over ten bins, each with half a case added."""
    p, q = ((np.histogram(one, BINS)[0] + 0.5) / (len(one) + 0.5 * (len(BINS) - 1)) for one in (expected, found))
    return float(np.sum((q - p) * np.log(q / p)))


def _said(answer: ClipAnalysed, shared: frozenset[str]) -> Said:
    highest = max((max(window.scores, default=0.0) for window in answer.windows), default=0.0)
    return Said({one.label: one.taxon for one in answer.detections if one.label in shared}, highest)


def _alarm(kind: str, says: str, clips: Iterable[str]) -> Alarm:
    return Alarm(kind, says, tuple(clips)[:NAMED])
