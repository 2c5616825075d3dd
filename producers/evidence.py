"""What people, its tour and other releases said of one clip, collected from records of the log. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, TypeVar

from soundscape.errors import Invalid
from soundscape.events import ClipAnalysed, ClipLabelled, Event, FeedbackGiven, TourSummed
from soundscape.judgements import standing_feedback, standing_labels
from soundscape.metrics import UNREADABLE
from soundscape.topics import FEEDBACK, LABELS, SHADOW_PREDICTIONS, TOURS
from soundscape.wire import PREFIX, decode, texts

E = TypeVar("E", bound=Event)
TOPICS = (FEEDBACK, LABELS, SHADOW_PREDICTIONS, TOURS)
"""What `collect` reads."""


@dataclass
class Sayings:
    """What stands for the clip, in the order of the log."""

    feedback: list[FeedbackGiven] = field(default_factory=list)
    labels: list[ClipLabelled] = field(default_factory=list)
    shadows: list[ClipAnalysed] = field(default_factory=list)
    """The latest of each release."""
    tour: TourSummed | None = None


def collect(records: Iterable[Any], clip_id: str, tour_id: str) -> Sayings:
    """What stands for the clip; only records that name it, or its tour, are opened. What does not decode is passed over."""
    feedback: list[FeedbackGiven] = []
    labels: list[ClipLabelled] = []
    shadows: dict[str, ClipAnalysed] = {}
    said, clip, tour = Sayings(), clip_id.encode(), tour_id.encode()
    for record in records:
        if record.topic == TOURS.name:
            if record.key == tour:
                said.tour = _read(TourSummed, record)
        elif record.topic == SHADOW_PREDICTIONS.name:
            if texts(record.headers).get(PREFIX + "clipid") == clip_id and (shadow := _read(ClipAnalysed, record)) is not None:
                shadows[shadow.release] = shadow
        elif clip not in (record.value or b""):
            continue
        elif record.topic == FEEDBACK.name:
            feedback += [one for one in (_read(FeedbackGiven, record),) if one is not None and str(one.clip_id) == clip_id]
        elif record.topic == LABELS.name:
            labels += [one for one in (_read(ClipLabelled, record),) if one is not None and str(one.clip_id) == clip_id]
    said.feedback, said.labels, said.shadows = standing_feedback(feedback), standing_labels(labels), list(shadows.values())
    return said


def _read(kind: type[E], record: Any) -> E | None:
    if record.value is None:
        return None
    try:
        return decode(kind, record.headers, record.value)
    except Invalid:
        UNREADABLE.labels("command", record.topic).inc()
        return None
