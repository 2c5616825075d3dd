"""Which labels are taken: each as the event that it becomes, or all of a request refused with what to do. Pure."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import NamedTuple

from consumers.labeler.problems import Problem
from consumers.labeler.queue import review_of
from consumers.labeler.schemas import LabelSent
from consumers.labeler.shelf import Sample, Shelf
from soundscape.events import ClipLabelled
from soundscape.judgements import opinions

PROVENANCE = "page"
"""Of a label that was given at this door."""
NEAR_S = 0.01
"""Seconds by which a window's start may differ and still be that window: what rounding does to it."""
MayName = Callable[[str], set[str]]
"""Site -> the labels that may be named there. Raises Unavailable."""


class Judged(NamedTuple):
    """A label that is taken."""

    event: ClipLabelled
    new: bool
    """False: it was said before, word for word."""


def judge(sent: list[LabelSent], by: str, see: Callable[[str], Sample], shelf: Shelf, may_name: MayName, now: datetime) -> list[Judged]:
    """The events of a request. `see` gives a clip's sample, or raises Problem (404, 410) where the labeler may not see it.

    Raises Problem: 409 for a label id that is taken, a window judged by this labeler already or settled by others; 422 for what
    contradicts itself, a window that is none, and species that the site's release does not know. Then nothing is taken.
    """
    judged, seen = [], set()
    for one in sent:
        before = shelf.label(one.label_id)
        if before is not None and _is_same(before, one, by):
            judged.append(Judged(before, new=False))
            continue
        sample = see(str(one.clip_id))
        _refuse_contradiction(one)
        start, end = _window(one, sample)
        if (sample.clip_id, start) in seen:
            raise Problem(422, "contradiction", f"The window at {start:g} s is judged twice in one request; send one label for it.")
        seen.add((sample.clip_id, start))
        if one.labels and (unknown := sorted(set(one.labels) - may_name(sample.site))):
            raise Problem(422, "unknown-species", f"Site {sample.site} has no species {', '.join(unknown)}; GET /v1/species names them.")
        event = ClipLabelled(
            label_id=one.label_id,
            clip_id=one.clip_id,
            stream=sample.stream,
            site=sample.site,
            start_s=start,
            end_s=end,
            tour_id=sample.tour_id,
            verdict=one.verdict,
            labels=tuple(dict.fromkeys(one.labels)),
            by=by,
            provenance=PROVENANCE,
            stratum=sample.stratum,
            review=_review(one, before, by, sample, start, shelf),
            note=one.note,
            labelled_at=now,
        )
        judged.append(Judged(event, new=True))
    return judged


def withdrawn(label: ClipLabelled, now: datetime) -> ClipLabelled:
    """The event that takes a label back."""
    return label.model_copy(update={"verdict": "withdrawn", "labels": (), "note": None, "labelled_at": now})


def _is_same(before: ClipLabelled, one: LabelSent, by: str) -> bool:
    where = before.by == by and before.clip_id == one.clip_id and abs(before.start_s - one.start_s) <= NEAR_S
    return where and (before.verdict, set(before.labels), before.note) == (one.verdict, set(one.labels), one.note)


def _refuse_contradiction(one: LabelSent) -> None:
    if one.verdict == "species" and not one.labels:
        raise Problem(422, "contradiction", f"The label at {one.start_s:g} s says `species` and names none; name one, or say `unknown`.")
    if one.verdict != "species" and one.labels:
        named = ", ".join(one.labels[:3])
        raise Problem(422, "contradiction", f"The label at {one.start_s:g} s says `{one.verdict}` and names {named}; say one of both.")


def _window(one: LabelSent, sample: Sample) -> tuple[float, float]:
    for start, end in sample.windows:
        if abs(start - one.start_s) <= NEAR_S and abs(end - one.end_s) <= NEAR_S:
            return start, end
    first, last = sample.windows[0][0], sample.windows[-1][1]
    what = f"The sample has no window from {one.start_s:g} to {one.end_s:g} s"
    raise Problem(422, "no-window", f"{what}; it has {len(sample.windows)} of 5 s between {first:g} and {last:g} s.")


def _review(one: LabelSent, before: ClipLabelled | None, by: str, sample: Sample, start: float, shelf: Shelf) -> int:
    """Which review the label is. Raises Problem (409)."""
    if before is not None:
        if (before.by, str(before.clip_id), before.start_s) != (by, sample.clip_id, start):
            raise Problem(409, "label-id-taken", f"The label id {one.label_id} belongs to another label; make a new one (a UUID).")
        if before.verdict != "withdrawn":
            return before.review
    said = opinions(shelf.labels_of(sample.clip_id)).get((sample.clip_id, start), [])
    if mine := [other for other in said if other.by == by]:
        what = f"You have judged the window at {start:g} s already"
        raise Problem(409, "already-judged", f"{what}; send its label_id {mine[0].label_id} again to change it, or withdraw it.")
    if (review := review_of(said, sample.clip_id)) == 0 and one.verdict != "speech":
        what = f"The window at {start:g} s is settled already"
        raise Problem(409, "settled", f"{what}; go on with GET /v1/queue/next, or ask {said[0].by} to change or withdraw their label.")
    return review or min(3, len(said) + 1)
