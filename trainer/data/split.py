"""Which clips are learnt from and which are kept to judge by: stratified by species, and no recording on both sides."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Collection, Sequence

from trainer.data.catalog import Clip

TRAIN, VALIDATION = "train", "validation"
SHARE = 0.15
"""Of a species' recordings that are kept for validation."""
MIN_RECORDINGS = 7
"""A species with fewer recordings gives none to validation beyond those already kept out: it needs them to be learnt."""


def split(clips: Sequence[Clip], placed: Collection[str], share: float = SHARE) -> dict[str, str]:
    """`train` or `validation` for every clip's file name; the same for the same clips.

    Recordings in `placed` (heard in the labelled soundscapes) are always in validation, and count towards its share. The
    others are drawn by the hash of their recording's id, so that new clips move few old ones. Rare species choose first.
    Recordings whose side the folder fixes stay there; those in validation count towards the share.
    """
    recordings: dict[str, set[str]] = defaultdict(set)
    for clip in clips:
        recordings[clip.labels[0]].add(clip.recording)
    kept = {clip.recording for clip in clips if clip.recording in placed or clip.side == VALIDATION}
    taught = {clip.recording for clip in clips if clip.side == TRAIN} - kept
    for _, own in sorted(recordings.items(), key=lambda item: (len(item[1]), item[0])):
        wanted = max(1, round(share * len(own))) if len(own) >= MIN_RECORDINGS else 0
        free = sorted(own - kept - taught, key=lambda one: hashlib.sha256(one.encode()).digest())
        kept.update(free[: max(0, wanted - len(own & kept))])
    return {clip.filename: VALIDATION if clip.recording in kept else TRAIN for clip in clips}
