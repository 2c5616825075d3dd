"""The model's answer, as it is shown beside a labeler's once they have answered. Pure."""

from __future__ import annotations

from typing import Any

from consumers.labeler.queue import task_for
from consumers.labeler.rules import NEAR_S
from consumers.labeler.shelf import Sample
from consumers.labeler.species import SpeciesList
from soundscape.events import ClipAnalysed, ClipLabelled, Window

TOP = 5
"""Scores that are shown of a window."""


def is_open(sample: Sample, labels: list[ClipLabelled], labeler: str) -> bool:
    """Whether the labeler may see the answer: after their first window, or where labels are to measure something after the last."""
    mine = [one for one in labels if one.by == labeler]
    if sample.stratum == "random" or any(one.review > 1 for one in mine):
        return bool(mine) and task_for(sample, labels, labeler) is None
    return bool(mine)


def revealed(sample: Sample, answer: ClipAnalysed | None, species: SpeciesList | None) -> dict[str, Any]:
    """The reason of the sample and what the model said of each window; `windows` is empty where the answer is gone from the log."""
    said: dict[str, Any] = {"hidden": False, "reasons": list(sample.reasons), "release": answer.release if answer else None, "windows": []}
    for start, end in sample.windows:
        heard = next((one for one in answer.windows if abs(one.start_s - start) <= NEAR_S), None) if answer else None
        if answer is not None and heard is not None:
            said["windows"].append({"start_s": start, "end_s": end, **_window(answer, heard, species)})
    return said


def _window(answer: ClipAnalysed, heard: Window, species: SpeciesList | None) -> dict[str, Any]:
    found = [one for one in answer.detections if one.start_s < heard.end_s and one.end_s > heard.start_s]
    scores = dict(zip(answer.labels, heard.scores, strict=True))
    top = sorted(scores, key=lambda label: (-scores[label], label))[:TOP]
    detected = [
        {"label": one.label, "names": one.names.model_dump(), "score": round(scores.get(one.label, 0.0), 4), "threshold": one.threshold}
        for one in found
    ]
    return {
        "silent": heard.silent,
        "detections": detected,
        "top": [{"label": label, "names": _names(label, answer, species), "score": round(scores[label], 4)} for label in top],
    }


def _names(label: str, answer: ClipAnalysed, species: SpeciesList | None) -> dict[str, str]:
    for one in answer.detections:
        if one.label == label:
            return one.names.model_dump()
    known = species.by_label.get(label) if species else None
    return {"scientific": known.scientific, "en": known.en, "es": known.es} if known else {"scientific": label, "en": label, "es": label}
