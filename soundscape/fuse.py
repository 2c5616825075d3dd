"""From the members' scores to an answer: fusion, prior, thresholds, detections. Pure functions."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from soundscape.audio import WINDOW_S
from soundscape.calibration import log_odds
from soundscape.events import Detection, Fusion, Names, Window
from soundscape.release import LoadedRelease, week_of

Float32 = npt.NDArray[np.float32]

DENSE_LABELS = 512
"""Up to so many labels a prediction lists every score."""
SCORE_FLOOR = 0.001
"""Beyond DENSE_LABELS, a label is listed if it reaches this in some window, before the prior."""
DIGITS = 4
"""Decimals of a score on the wire."""
TOP = 5
"""Scores listed of each member in each window."""


class Fused(NamedTuple):
    """Scores of a clip, float32 (windows, labels), before and after the prior; `weights` and `thresholds` float32 (labels,)."""

    unweighted: Float32
    scores: Float32
    weights: Float32 | None
    """None without a prior."""
    thresholds: Float32
    """Those of the members that answered."""
    calibrated: bool
    """Whether thresholds were chosen for just these members."""


def fuse(loaded: LoadedRelease, members: dict[str, Float32], silent: list[bool], recorded_at: datetime | None) -> Fused:
    """Average what the members say of a clip, label by label over the members that know it, calibrate, hear each window beside its
    neighbours, and lower the scores by place and week.

    `members`: float32 (windows, outputs) of each member that answered. A silent window scores 0 throughout. A label that no
    present member knows scores 0.
    """
    unweighted = _average(loaded, members, len(silent))
    if loaded.release.calibration is not None:
        unweighted = loaded.release.calibration.apply(unweighted, loaded.label_names)
    unweighted[np.array(silent)] = 0.0
    unweighted = in_context(unweighted, loaded.release.context)
    unweighted[np.array(silent)] = 0.0
    weights = prior_weights(loaded, recorded_at)
    scores: Float32 = unweighted if weights is None else (unweighted * weights).astype(np.float32, copy=False)
    return Fused(unweighted, scores, weights, *loaded.thresholds_of(members.keys()))


def _average(loaded: LoadedRelease, members: dict[str, Float32], windows: int) -> Float32:
    """The members' weighted mean, of probabilities or of log-odds: float32 (windows, labels)."""
    by_odds = loaded.release.fusion == "log_odds"
    total = np.zeros((windows, len(loaded.label_names)), np.float32)
    weight = np.zeros(len(loaded.label_names), np.float32)
    for member in loaded.release.members:
        if member.name in members:
            columns, own = loaded.columns[member.name], loaded.weights[member.name]
            said = members[member.name][:, : len(columns)]
            total[:, columns] += own * (log_odds(said) if by_odds else said)
            weight[columns] += own
    mean = total / np.maximum(weight, np.float32(1e-9))
    if by_odds:
        mean = np.where(weight > 0, 1.0 / (1.0 + np.exp(-mean)), 0.0)
    averaged: Float32 = np.clip(mean, 0.0, 1.0).astype(np.float32, copy=False)
    return averaged


def fusion_of(loaded: LoadedRelease, answered: Collection[str]) -> Fusion | None:
    """How the members that answered were fused, as a prediction tells it; None where the release has but one."""
    release = loaded.release
    present = [member for member in release.members if member.name in answered]
    if len(release.members) < 2:
        return None

    def shares(taxon: str) -> dict[str, float]:
        own = {member.name: member.weight_by_taxon.get(taxon, member.weight) for member in present}
        whole = sum(own.values()) or 1.0
        return {name: round(weight / whole, DIGITS) for name, weight in own.items()}

    taxa = sorted({taxon for member in present for taxon in member.weight_by_taxon})
    return Fusion(
        mean_of=release.fusion,
        weights=shares(""),
        weights_by_taxon={taxon: shares(taxon) for taxon in taxa},
        context=release.context,
    )


def in_context(scores: Float32, share: float) -> Float32:
    """Each window's scores, float32 (windows, labels), with this share of them from the mean of the windows before and after.

    The first and the last window stand in for the neighbour that they lack; so a clip of one window keeps its scores.
    """
    if not share or len(scores) < 2:
        return scores
    padded = np.pad(scores, ((1, 1), (0, 0)), mode="edge")
    return np.asarray((1 - share) * scores + share * (padded[:-2] + padded[2:]) / 2, np.float32)


def prior_weights(loaded: LoadedRelease, recorded_at: datetime | None) -> Float32 | None:
    """What place and week multiply each label's score by: float32 (labels,), or None without a prior.

    Without a date the year's highest stands, so that nothing is lowered on a guess.
    """
    if loaded.prior is None:
        return None
    if recorded_at is None:
        best: Float32 = loaded.prior.max(axis=0)
        return best
    week: Float32 = loaded.prior[week_of(recorded_at.day, recorded_at.month)]
    return week


def detect(loaded: LoadedRelease, fused: Fused) -> tuple[Detection, ...]:
    """Every run of consecutive windows in which a label reaches its threshold, most confident first.

    The threshold meets the score before the prior: place and week lower a row, they never hide it.
    """
    above = fused.unweighted >= fused.thresholds
    found = []
    for column in np.flatnonzero(above.any(axis=0)):
        species = loaded.release.labels[column]
        edges = np.flatnonzero(np.diff(above[:, column].astype(np.int8), prepend=0, append=0)).reshape(-1, 2)
        for first, end in edges:
            best = first + int(fused.scores[first:end, column].argmax())
            found.append(
                Detection(
                    label=species.label,
                    names=Names(scientific=species.scientific, en=species.en, es=species.es),
                    taxon=species.taxon,
                    confidence=round(float(fused.scores[best, column]), DIGITS),
                    unweighted=round(float(fused.unweighted[best, column]), DIGITS),
                    threshold=round(float(fused.thresholds[column]), DIGITS),
                    start_s=first * WINDOW_S,
                    end_s=end * WINDOW_S,
                )
            )
    return tuple(sorted(found, key=lambda one: -one.confidence))


class Listed(NamedTuple):
    """What a prediction lists: labels, the floor (0: all), their weights, and the windows."""

    labels: tuple[str, ...]
    score_floor: float
    weights: tuple[float, ...] | None
    windows: tuple[Window, ...]


def listing(loaded: LoadedRelease, fused: Fused, members: dict[str, Float32], silent: list[bool]) -> Listed:
    """Scores as they travel: all labels up to DENSE_LABELS, beyond that those that reach SCORE_FLOOR before the prior."""
    dense = len(loaded.label_names) <= DENSE_LABELS
    columns = np.arange(len(loaded.label_names)) if dense else np.flatnonzero((fused.unweighted >= SCORE_FLOOR).any(axis=0))
    scores = np.round(fused.scores[:, columns].astype(np.float64), DIGITS)
    weights = None
    if fused.weights is not None and (fused.weights < 1.0).any():
        weights = tuple(np.round(fused.weights[columns].astype(np.float64), DIGITS).tolist())
    told = sound_events(loaded, members, silent)
    windows = tuple(
        Window(
            start_s=n * WINDOW_S,
            end_s=(n + 1) * WINDOW_S,
            scores=tuple(scores[n].tolist()),
            members={name: _top(loaded, name, outputs[n]) for name, outputs in members.items()},
            events={event: round(float(heard[n]), DIGITS) for event, heard in told.items()},
            silent=silent[n],
        )
        for n in range(len(silent))
    )
    return Listed(tuple(loaded.label_names[c] for c in columns), 0.0 if dense else SCORE_FLOOR, weights, windows)


def sound_events(loaded: LoadedRelease, members: dict[str, Float32], silent: list[bool]) -> dict[str, Float32]:
    """How strongly each sound event (`speech`, …) is heard: float32 (windows,), the highest score that any member gave it or its labels.

    Before fusion and prior, so that neither a second member nor a place can hide a voice. An event is told only where all answered that
    tell it, and its labels are known between them: without the member that hears voices nobody may say that there are none.
    """
    told: dict[str, Float32] = {}
    for event in loaded.release.told_events:
        labels, heard, known = loaded.release.sound_events.get(event, ()), [], set()
        for member in loaded.release.members:
            if member.name in members:
                named = [label for label in member.labels if label in labels]
                known.update(named)
                heard += [members[member.name][:, member.labels.index(label)] for label in named]
                heard += [members[member.name][:, len(member.labels) + n] for n, one in enumerate(member.events) if one == event]
        missing = [member for member in loaded.release.members if event in member.events and member.name not in members]
        if heard and not missing and known == set(labels):
            told[event] = np.where(silent, np.float32(0.0), np.max(heard, axis=0))
    return told


def _top(loaded: LoadedRelease, member: str, outputs: Float32) -> dict[str, float]:
    columns = loaded.columns[member]
    outputs = outputs[: columns.size]
    if not outputs.size:
        return {}
    best = np.argpartition(outputs, -min(TOP, outputs.size))[-min(TOP, outputs.size) :]
    ordered = best[np.argsort(-outputs[best])]
    return {loaded.label_names[columns[n]]: round(float(outputs[n]), DIGITS) for n in ordered}
