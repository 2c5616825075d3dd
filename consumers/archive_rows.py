"""What events become in the archive's tables, and how people's words correct a clip's detections: pure functions."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from datetime import date
from typing import Any, NamedTuple

from soundscape.events import ClipAnalysed, ClipLabelled, FeedbackGiven, TourSummed
from soundscape.judgements import Settled, settle, standing_feedback

Row = dict[str, Any]
Word = tuple[str, list[str]]
"""A status, and who gave it."""

HEARD, CONFIRMED, REJECTED, SAID = "heard", "confirmed by person", "rejected by person", "said by person"
"""A detection's status: a model's word alone, a person's on it, or a species that only a person named."""
OF_CLIP = ("clip_id", "site", "stream", "tour_id", "recorder", "recorded_at", "published_at", "latitude", "longitude", "release", "role")
"""What a detection repeats of its clip, so that it can be read alone."""
_DAILY = re.compile(r"@(\d{4}-\d{2}-\d{2})$")


class Answer(NamedTuple):
    """A clip's answer: its row, and one of each detection as the release gave it."""

    day: date
    clip: Row
    detections: list[Row]


def answer_of(event: ClipAnalysed, place: str) -> Answer:
    """The rows of an answer; `place` is where it lies on the log. Its day is that of the recording, else of the publication, in UTC."""
    published = event.stages.published
    clip: Row = {
        **event.model_dump(include={"site", "stream", "tour_id", "recorder", "file_name", "client", "latitude", "longitude", "release"}),
        "clip_id": str(event.clip_id),
        "recorded_at": event.recorded_at,
        "published_at": published,
        "role": event.role,
        "seconds": max((window.end_s for window in event.windows), default=0.0),
        "answer": place,
    }
    same = {name: clip[name] for name in OF_CLIP}
    detections = [
        {**same, **one.names.model_dump(), **one.model_dump(exclude={"names"}), "status": HEARD, "by": []} for one in event.detections
    ]
    return Answer((event.recorded_at or published).date(), clip, detections)


def corrected(clip: Row, detections: Sequence[Row], labels: Iterable[ClipLabelled], feedback: Iterable[FeedbackGiven]) -> list[Row]:
    """A clip's detections with the status that people gave them, and the species that only people named.

    Labelers outrank guides; of guides who contradict each other, the last word on a species counts. A detection is rejected by labelers
    where windows that do not name it cover all of it.
    """
    settled = [one for one in settle(labels).values() if one.verdict in ("species", "nothing")]
    words = _guides_words(standing_feedback(feedback), [row["label"] for row in detections])
    rows = []
    for row in detections:
        status, by = _by_labelers(row, settled) or words.get(row["label"]) or (HEARD, [])
        rows.append({**row, "status": status, "by": by})
    return rows + [{name: clip[name] for name in OF_CLIP} | row for row in _said(clip, detections, settled, words)]


def _said(clip: Row, detections: Sequence[Row], settled: Sequence[Settled], words: dict[str, Word]) -> Iterator[Row]:
    """What only people named: labelers in a window, or guides, where no labeler judged, in the clip."""
    for one in settled:
        for label in sorted(one.labels):
            if not any(row["label"] == label and _overlap(row, one) > 0 for row in detections):
                yield {"label": label, "start_s": one.start_s, "end_s": one.end_s, "status": SAID, "by": list(one.by)}
    for label in () if settled else sorted(words.keys() - {row["label"] for row in detections}):
        if words[label][0] == CONFIRMED:
            yield {"label": label, "start_s": 0.0, "end_s": clip["seconds"], "status": SAID, "by": words[label][1]}


def _by_labelers(row: Row, settled: Sequence[Settled]) -> Word | None:
    near = [one for one in settled if _overlap(row, one) > 0]
    naming = [one for one in near if row["label"] in one.labels]
    if naming:
        return CONFIRMED, sorted({who for one in naming for who in one.by})
    if near and sum(_overlap(row, one) for one in near) >= row["end_s"] - row["start_s"] - 1e-3:
        return REJECTED, sorted({who for one in near for who in one.by})
    return None


def _overlap(row: Row, one: Settled) -> float:
    return max(0.0, float(min(row["end_s"], one.end_s) - max(row["start_s"], one.start_s)))


def _guides_words(standing: Iterable[FeedbackGiven], labels: Sequence[str]) -> dict[str, Word]:
    """The last word on each label. Who says what it was says too that it was not what the answer named; `unknown` says nothing."""
    words: dict[str, Word] = {}
    for one in sorted(standing, key=lambda said: said.given_at):
        named = one.heard if one.verdict == "right" else one.labels if one.verdict == "species" else ()
        refused = set(one.heard or labels) if one.verdict in ("wrong", "species") else set()
        words |= {label: (REJECTED, [one.by]) for label in refused - set(named)}
        words |= {label: (CONFIRMED, [one.by]) for label in named}
    return words


def feedback_row(event: FeedbackGiven) -> Row:
    """The row of a guide's judgement."""
    row = event.model_dump(exclude={"clip_place", "answer_place"})
    return {**row, "clip_id": str(event.clip_id), "labels": list(event.labels), "heard": list(event.heard)}


def label_row(event: ClipLabelled) -> Row:
    """The row of a labeler's judgement."""
    return {**event.model_dump(), "clip_id": str(event.clip_id), "labels": list(event.labels)}


def tour_row(event: TourSummed) -> Row:
    """The row of a tour, or of a recorder's day."""
    heard = [{**one.model_dump(exclude={"names"}), "best_clip": str(one.best_clip) if one.best_clip else None} for one in event.heard]
    return {**event.model_dump(), "species": list(event.species), "releases": list(event.releases), "heard": heard}


def tour_day(event: TourSummed) -> date:
    """The day that a tour belongs to: its start's, that in a recorder's STREAM@DAY, else that of the first species or of the summary."""
    if event.started_at is not None:
        return event.started_at.date()
    if found := _DAILY.search(event.tour_id):
        try:
            return date.fromisoformat(found[1])
        except ValueError:
            pass  # a guide may name a tour so
    firsts = [one.first_at for one in event.heard if one.first_at is not None]
    return min(firsts, default=event.at).date()
