"""What a release was trained on, as far as its prepared data set is still here: to keep it out of what judges the release."""

from __future__ import annotations

import csv
import re
from collections import Counter
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path

from soundscape.holdout import held_out
from soundscape.release import LoadedRelease
from trainer.data import store

_CLIP_ID = re.compile(r"^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", re.IGNORECASE)


@dataclass(frozen=True)
class Trained:
    """What a release learnt from. Without the data set's manifest everything is empty."""

    prepared: store.Prepared | None = None
    recordings: frozenset[str] = frozenset()
    """Ids of the recordings that its clips were taken from; of clips of the log their ids, and their streams' days."""
    digests: frozenset[str] = frozenset()
    """SHA-256 of the sound files, its beds among them."""
    clips: Counter[str] = field(default_factory=Counter)
    """Training clips by label, secondary labels included."""
    held_out: tuple[str, ...] = ()
    """Training clips whose stream and day belong to evaluation."""

    def knows(self, recording: str, group: str, digest: str) -> bool:
        """Whether it learnt from this recording, from this stream's day, or from these very bytes."""
        return identity(recording) in self.recordings or group in self.recordings or digest in self.digests


def identity(recording: str) -> str:
    """A recording's id; of a piece of a clip of the log (`CLIPID_START`) the clip's."""
    found = _CLIP_ID.match(recording)
    return found.group().lower() if found else recording


def trained_on(loaded: LoadedRelease, datasets: Path) -> Trained:
    """Read the manifest of the data that the release names, among those under `datasets`."""
    prepared = find_prepared(datasets, loaded.release.data_digest)
    if prepared is None:
        return Trained()
    learnt = prepared.of(store.TRAIN)
    return Trained(
        prepared,
        frozenset(one for item in learnt for one in (item.recording, identity(Path(item.name).stem))),
        frozenset(item.digest for item in (*learnt, *prepared.of(store.BED))),
        Counter(label for item in learnt for label in item.labels),
        _held_out(prepared, {item.name for item in learnt}),
    )


def find_prepared(datasets: Path, digest: str | None) -> store.Prepared | None:
    """The prepared data set of that digest, or None."""
    for path in sorted(datasets.glob("*/dataset.json")) if digest else ():
        if f'"digest": "{digest}"' in path.read_text(encoding="utf-8"):
            found = store.load(path.parent)
            if found.digest == digest:
                return found
    return None


def _held_out(prepared: store.Prepared, learnt: set[str]) -> tuple[str, ...]:
    """Names of training clips that `soundscape.holdout` keeps for evaluation, where the source's table tells stream and day."""
    table = prepared.source / "train.csv"
    if not table.is_file():
        return ()
    with table.open(newline="", encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row.get("stream") and row.get("day")]
    return tuple(
        row["filename"]
        for row in rows
        if f"train_audio/{row['filename']}" in learnt and held_out(row["stream"], date.fromisoformat(row["day"]))
    )
