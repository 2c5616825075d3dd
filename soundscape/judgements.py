"""Which judgements stand, and what they settle: pure functions over feedback and labels in the order of the log."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal, NamedTuple

from soundscape.events import ClipLabelled, FeedbackGiven

Verdict = Literal["species", "unknown", "nothing", "speech"]
Answer = tuple[str, frozenset[str]]
"""Verdict and labels: two labelers agree where both are the same."""
DECIDED = 3
"""Labelers after whom a window is settled, whatever they said."""


@dataclass(frozen=True)
class Settled:
    """What a window of a clip holds, by its labelers together."""

    clip_id: str
    start_s: float
    end_s: float
    verdict: Verdict
    labels: frozenset[str]
    provenance: Literal["expert", "agreed"]
    """One labeler's word, or that of two who did not see each other's."""
    stratum: Literal["random", "value"]
    by: tuple[str, ...]
    """Who said so, the first first; who said otherwise is not here."""


class Pair(NamedTuple):
    """Two blind judgements of one window."""

    one: str
    said: str
    other: str
    other_said: str


def standing_labels(events: Iterable[ClipLabelled]) -> list[ClipLabelled]:
    """The latest of each label id, without those that were withdrawn, in the order in which they were last said."""
    latest: dict[str, ClipLabelled] = {}
    for event in events:
        latest.pop(event.label_id, None)
        latest[event.label_id] = event
    return [event for event in latest.values() if event.verdict != "withdrawn"]


def standing_feedback(events: Iterable[FeedbackGiven]) -> list[FeedbackGiven]:
    """The latest of each feedback id, without those that were withdrawn, in the order in which they were last said."""
    latest: dict[str, FeedbackGiven] = {}
    for event in events:
        latest.pop(event.feedback_id, None)
        latest[event.feedback_id] = event
    return [event for event in latest.values() if event.verdict != "withdrawn"]


def answer_of(event: ClipLabelled) -> Answer:
    """What a label says, comparable."""
    return event.verdict, frozenset(event.labels) if event.verdict == "species" else frozenset()


def opinions(events: Iterable[ClipLabelled]) -> dict[tuple[str, float], list[ClipLabelled]]:
    """The standing labels by (clip id, start_s): one a labeler (the latest), in the order of their reviews."""
    found: dict[tuple[str, float], dict[str, ClipLabelled]] = {}
    for event in standing_labels(events):
        of_window = found.setdefault((str(event.clip_id), event.start_s), {})
        of_window.pop(event.by, None)
        of_window[event.by] = event
    return {window: sorted(by_labeler.values(), key=lambda one: one.review) for window, by_labeler in found.items()}


def settle(events: Iterable[ClipLabelled]) -> dict[tuple[str, float], Settled]:
    """What each labelled window holds, by (clip id, start_s); a window over which two disagree is not there until a third has spoken."""
    settled = {window: settled_by(said) for window, said in opinions(events).items()}
    return {window: one for window, one in settled.items() if one is not None}


def settled_by(said: list[ClipLabelled]) -> Settled | None:
    """What the labels of one window, one a labeler, settle; None where they are open or there are none.

    One stands as `expert`. The same from two is `agreed`. Two that differ wait for a third, whose word decides: `agreed` where it is
    that of one of them, else `expert`. A voice is the exception: who heard it is believed at once, since the others may not have listened.
    """
    if not said:
        return None
    votes = Counter(answer_of(one) for one in said)
    speech: Answer = ("speech", frozenset())
    (most, count), *others = votes.most_common()
    if votes[speech]:
        most = speech
    elif len(votes) > 1 and (count == 1 or (others and others[0][1] == count)):
        if len(said) < DECIDED:
            return None
        most = answer_of(said[-1])
    agreeing = [one for one in said if answer_of(one) == most]
    first = agreeing[0]
    assert first.verdict != "withdrawn"
    return Settled(
        clip_id=str(first.clip_id),
        start_s=first.start_s,
        end_s=first.end_s,
        verdict=first.verdict,
        labels=most[1],
        provenance="agreed" if len(agreeing) > 1 else "expert",
        stratum="random" if any(one.stratum == "random" for one in said) else "value",
        by=tuple(one.by for one in agreeing),
    )


def blind_pairs(events: Iterable[ClipLabelled]) -> Iterator[Pair]:
    """First and second review of each window that had both. The third is left out: it exists only where two disagree."""
    for said in opinions(events).values():
        first, second = ([one for one in said if one.review == n] for n in (1, 2))
        if first and second:
            one, other = sorted((first[0], second[0]), key=lambda label: label.by)
            yield Pair(one.by, _category(one), other.by, _category(other))


def kappa(pairs: Iterable[tuple[str, str, str, str]]) -> dict[tuple[str, str], tuple[float, int]]:
    """Cohen's kappa and the number of windows of each pair of labelers, over (one, what they said, other, what they said).

    What was said is a category: all labels of a window together. Two who always said one same thing agree (1.0), where the formula
    divides by zero.
    """
    from sklearn.metrics import cohen_kappa_score

    said: dict[tuple[str, str], list[tuple[str, str]]] = {}
    for one, first, other, second in pairs:
        who, what = ((one, other), (first, second)) if one <= other else ((other, one), (second, first))
        said.setdefault(who, []).append(what)
    found = {}
    for who, both in said.items():
        lonely = len({category for what in both for category in what}) == 1
        value = 1.0 if lonely else float(cohen_kappa_score([a for a, _ in both], [b for _, b in both]))
        found[who] = (value, len(both))
    return found


def _category(event: ClipLabelled) -> str:
    verdict, labels = answer_of(event)
    return " ".join((verdict, *sorted(labels)))
