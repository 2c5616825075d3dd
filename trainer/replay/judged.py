"""What people said of which stretch of which clip, weighed: pure, and the same in whatever order the log's partitions were read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Container, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from soundscape.events import ClipLabelled, FeedbackGiven, Place
from soundscape.judgements import settle, standing_feedback, standing_labels

Provenance = Literal["expert", "agreed", "guide", "pseudo"]

WEIGHTS: dict[str, float] = {"agreed": 1.0, "expert": 0.9, "guide": 0.4, "pseudo": 0.2}
"""What a row counts for in training. Two people who agreed without seeing each other's answer set the scale. One person alone errs
in about one window of ten. A guide heard it in passing and judged an answer that was shown, of a sample that is biased by it. A
model's own confident answer teaches little that it does not know, and its errors are confident too."""


@dataclass(frozen=True)
class Piece:
    """A stretch of a clip that a dataset wants. No labels: nothing calls there."""

    start_s: float
    end_s: float | None
    """None: to the end of the clip."""
    labels: tuple[str, ...]
    """The primary one first."""
    provenance: Provenance


@dataclass
class Wanted:
    """The pieces of each clip, and how many were left out for what reason."""

    pieces: dict[str, list[Piece]] = field(default_factory=dict)
    """By clip id."""
    left: Counter[str] = field(default_factory=Counter)
    places: dict[str, Place] = field(default_factory=dict)
    """Where a clip lies, as far as a guide's feedback says so."""


def wanted(
    labels: Iterable[ClipLabelled],
    feedback: Iterable[FeedbackGiven],
    pseudo: Mapping[str, Collection[Piece]],
    denied: Container[str],
    known: Container[str],
) -> Wanted:
    """What a dataset is made of: settled labels; of clips without a label, the guides' feedback; of clips without either, pseudo-labels.

    `known` are the labels of the taxonomy. A window that names a species beyond it is left out whole: half a truth would teach the other
    half to be silent.
    """
    out = Wanted()
    judged = _labelled(list(labels), known, out)
    judged |= _by_guides(standing_feedback(feedback), judged, known, out)
    for clip, pieces in pseudo.items():
        if clip not in judged:
            out.pieces.setdefault(clip, []).extend(pieces)
    for clip in [clip for clip in out.pieces if clip in denied]:
        out.left["denied"] += len(out.pieces.pop(clip))
    for pieces in out.pieces.values():
        pieces.sort(key=lambda piece: (piece.start_s, piece.end_s or 0.0))
    return out


def _labelled(labels: list[ClipLabelled], known: Container[str], out: Wanted) -> set[str]:
    """Adds the settled windows; returns the clips that people labelled, settled or not."""
    standing = standing_labels(labels)
    settled = settle(standing)
    if disputed := {(str(one.clip_id), one.start_s) for one in standing} - settled.keys():
        out.left["labelers disagree"] += len(disputed)
    for one in settled.values():
        if one.verdict in ("unknown", "speech"):
            out.left["denied" if one.verdict == "speech" else "unknown to the labeler"] += 1
        elif one.verdict == "species" and not all(label in known for label in one.labels):
            out.left["species not in the taxonomy"] += 1
        else:
            names = tuple(sorted(one.labels)) if one.verdict == "species" else ()
            out.pieces.setdefault(one.clip_id, []).append(Piece(one.start_s, one.end_s, names, one.provenance))
    return {str(one.clip_id) for one in standing}


def _by_guides(standing: Iterable[FeedbackGiven], judged: Container[str], known: Container[str], out: Wanted) -> set[str]:
    """Adds the clips, whole, of which all guides who judged them say the same; returns the clips that guides judged."""
    by_clip: dict[str, list[FeedbackGiven]] = {}
    for one in standing:
        by_clip.setdefault(str(one.clip_id), []).append(one)
        out.places[str(one.clip_id)] = one.clip_place
    for clip, said in by_clip.items():
        if clip in judged:
            continue
        naming = [one for one in said if one.verdict in ("right", "species")]
        named = {tuple(sorted(set(one.heard if one.verdict == "right" else one.labels))) for one in naming}
        others = len(said) > len(naming)
        if len(named) > 1 or (named and others):
            out.left["guides disagree"] += 1
        elif not named:
            out.left["a guide says only what it is not"] += 1
        elif not (labels := named.pop()):
            out.left["a guide names nothing"] += 1
        elif not all(label in known for label in labels):
            out.left["species not in the taxonomy"] += 1
        else:
            out.pieces.setdefault(clip, []).append(Piece(0.0, None, labels, "guide"))
    return set(by_clip)
