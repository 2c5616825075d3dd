"""Why did I get this? All that is known of how a clip came to its answer, put together. Pure: the gateway and the command gather."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from heapq import nlargest
from typing import Any

from producers.tour_past import around
from soundscape.events import ClipAnalysed, ClipLabelled, ClipRecorded, FeedbackGiven, Place, TourSummed, Window
from soundscape.release import LoadedRelease
from soundscape.taxonomy import Species
from soundscape.tours import Row, tour_of

BEST = 10
"""Fused scores of each window that are shown, beside every label that was detected or that a member put among its highest."""
DENIED = "A labeler heard a person in this clip: nobody hears it again, and it is neither explained nor judged."
"""Why a clip of the deny list is gone."""


@dataclass(frozen=True)
class Evidence:
    """What was found. `clip` is None where the log has lost it; `release` where it is not on this machine any more."""

    answer: ClipAnalysed
    place: Place
    clip: ClipRecorded | None
    release: LoadedRelease | None = None
    feedback: Sequence[FeedbackGiven] = ()
    labels: Sequence[ClipLabelled] = ()
    tour: TourSummed | None = None
    rows: Mapping[str, Row] | None = None
    """What its tour is derived from, by label; None where they were dropped, or nobody answered."""
    shadows: Sequence[ClipAnalysed] = ()


def tour_id_of(answer: ClipAnalysed) -> str:
    """The tour, or the recorder's day, that counts the clip."""
    return tour_of(answer.tour_id, answer.stream, answer.recorded_at or answer.stages.published)


def explanation(found: Evidence) -> dict[str, Any]:
    """All of it as JSON."""
    answer, shown = found.answer, shown_labels(found.answer)
    before, after = around(found.rows, tour_id_of(answer), answer, lambda _, label: _species(found.release, label))
    return {
        "clip_id": str(answer.clip_id),
        "clip": _clip(answer),
        "recording": _recording(found.clip),
        "gone": found.clip is None,
        "features": list(answer.feature_fingerprints),
        "release": _release(answer),
        "members": _members(answer, found.release),
        "fusion": answer.fusion.model_dump(mode="json") if answer.fusion else None,
        "windows": [_window(answer, window, shown) for window in answer.windows],
        "prior": _prior(answer, shown),
        "thresholds": _thresholds(answer, found.release, shown),
        "detections": [detection.model_dump(mode="json") for detection in answer.detections],
        "stages": stages(answer),
        "place": str(found.place),
        "feedback": [one.model_dump(mode="json") for one in found.feedback],
        "labels": [one.model_dump(mode="json") for one in found.labels],
        "tour": found.tour.model_dump(mode="json") if found.tour else None,
        "tour_before": before.model_dump(mode="json") if before else None,
        "tour_after": after.model_dump(mode="json") if after else None,
        "contributed": contributed(answer, found.tour, before, after),
        "shadows": [_shadow(answer, one) for one in found.shadows],
    }


def shown_labels(answer: ClipAnalysed) -> tuple[str, ...]:
    """The labels that had a chance, in the answer's order: the best of each window, what members put highest, what was detected."""
    chosen = {detection.label for detection in answer.detections}
    for window in answer.windows:
        chosen.update(label for highest in window.members.values() for label in highest)
        best = nlargest(BEST, range(len(answer.labels)), key=window.scores.__getitem__)
        chosen.update(answer.labels[n] for n in best)
    return tuple(label for label in answer.labels if label in chosen)


def stages(answer: ClipAnalysed) -> list[dict[str, Any]]:
    """Each stage with the milliseconds since the one before it."""
    said: list[dict[str, Any]] = []
    before: datetime | None = None
    for name in type(answer.stages).model_fields:
        at: datetime | None = getattr(answer.stages, name)
        if at is None:
            continue
        said.append({"stage": name, "at": at.isoformat(), "ms": None if before is None else round((at - before).total_seconds() * 1000, 1)})
        before = at
    return said


def contributed(
    answer: ClipAnalysed, tour: TourSummed | None, before: TourSummed | None = None, after: TourSummed | None = None
) -> list[dict[str, Any]]:
    """The species that the answer names, with what its tour made of each before and after the clip, and makes of it now.

    A status is None where the tour does not count the species.
    """
    rows, was, became = ({row.label: row for row in one.heard} if one else {} for one in (tour, before, after))
    said = []
    for label in dict.fromkeys(detection.label for detection in answer.detections):
        row = rows.get(label)
        said.append(
            {
                "label": label,
                "before": was[label].status if label in was else None,
                "after": became[label].status if label in became else None,
                "status": row.status if row else None,
                "by_person": row.by_person if row else False,
                "clips": row.clips if row else 0,
                "best_of_tour": row is not None and row.best_clip == answer.clip_id,
            }
        )
    return said


def _species(release: LoadedRelease | None, label: str) -> Species | None:
    return next((one for one in release.release.labels if one.label == label), None) if release else None


def _clip(answer: ClipAnalysed) -> dict[str, Any]:
    return {
        "site": answer.site,
        "stream": answer.stream,
        "tour_id": answer.tour_id,
        "recorder": answer.recorder,
        "file_name": answer.file_name,
        "client": answer.client,
        "recorded_at": answer.recorded_at.isoformat() if answer.recorded_at else None,
        "latitude": answer.latitude,
        "longitude": answer.longitude,
        "place": str(answer.place),
    }


def _recording(clip: ClipRecorded | None) -> dict[str, Any] | None:
    if clip is None:
        return None
    return {
        "content_type": clip.content_type,
        "original_type": clip.original_type or clip.content_type,
        "original_rate": clip.original_rate,
        "sha256": clip.sha256,
        "bytes": len(clip.audio),
    }


def _release(answer: ClipAnalysed) -> dict[str, Any]:
    return {
        "name": answer.release,
        "digest": answer.release_digest,
        "licences": list(answer.licences),
        "generation": answer.generation,
        "role": answer.role,
    }


def _members(answer: ClipAnalysed, release: LoadedRelease | None) -> list[dict[str, Any]]:
    """The members by name: their weight where the release is at hand, and why one was left out."""
    out = {one.member: one.why for one in answer.left_out}
    known = {member.name: member for member in release.release.members} if release else {}
    names = dict.fromkeys([*known, *(name for window in answer.windows for name in window.members), *out])
    return [
        {
            "name": name,
            "weight": known[name].weight if name in known else None,
            "features": known[name].feature_fingerprint if name in known else None,
            "precision": known[name].precision if name in known else None,
            "licence": known[name].licence if name in known else None,
            "left_out": out.get(name),
        }
        for name in names
    ]


def _window(answer: ClipAnalysed, window: Window, shown: Iterable[str]) -> dict[str, Any]:
    scores = dict(zip(answer.labels, window.scores, strict=True))
    return {
        "start_s": window.start_s,
        "end_s": window.end_s,
        "silent": window.silent,
        "scores": dict(sorted(((label, scores[label]) for label in shown), key=lambda pair: (-pair[1], pair[0]))),
        "members": window.members,
        "events": window.events,
    }


def _prior(answer: ClipAnalysed, shown: Iterable[str]) -> dict[str, float] | None:
    """What place and week multiplied each score by; None where they lowered nothing."""
    if answer.weights is None:
        return None
    weights = dict(zip(answer.labels, answer.weights, strict=True))
    return {label: weights[label] for label in shown}


def _thresholds(answer: ClipAnalysed, release: LoadedRelease | None, shown: Iterable[str]) -> dict[str, float]:
    """Of the shown labels where the release is at hand, else of those that passed theirs."""
    found = {detection.label: detection.threshold for detection in answer.detections}
    if release is not None:
        known = release.release
        found = {label: known.thresholds.get(label, known.threshold) for label in shown} | found
    return found


def _shadow(answer: ClipAnalysed, shadow: ClipAnalysed) -> dict[str, Any]:
    """Another release's answer, and where it differs."""
    theirs, ours = (sorted({detection.label for detection in one.detections}) for one in (shadow, answer))
    return {
        "release": shadow.release,
        "digest": shadow.release_digest,
        "role": shadow.role,
        "run_id": shadow.run_id,
        "detections": [{"label": one.label, "confidence": one.confidence, "threshold": one.threshold} for one in shadow.detections],
        "only_here": [label for label in theirs if label not in ours],
        "only_answered": [label for label in ours if label not in theirs],
    }
