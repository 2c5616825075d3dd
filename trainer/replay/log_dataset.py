"""A dataset made from the log, in the layout of BirdCLEF 2025: which row goes where, its tables, and its digest."""

from __future__ import annotations

import csv
import hashlib
import io
import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import date, datetime
from pathlib import Path, PurePosixPath
from typing import Any, Literal

from soundscape.audio import TAIL_S, WINDOW_S
from soundscape.holdout import held_out
from soundscape.taxonomy import Species
from trainer.data.store import write_text
from trainer.replay.judged import WEIGHTS, Piece, Provenance

Kind = Literal["train", "background", "evaluation"]
COLLECTION = "el-silencio"
EXTRA = ("provenance", "weight", "clip_id", "start_s", "end_s", "site", "stream", "day", "recorded_at", "source")
"""Columns beyond the layout. `end_s` is empty where the row holds the clip to its end; `source`: cut from `clip` or from `sample`."""
TRAIN = (
    "primary_label", "secondary_labels", "type", "filename", "collection", "rating", "url", "latitude", "longitude",
    "scientific_name", "common_name", "author", "license",
)  # fmt: skip
"""The layout's own columns; nobody's name is written as author."""


@dataclass(frozen=True)
class Heard:
    """The clip that a piece was cut from."""

    clip_id: str
    site: str
    stream: str
    day: date
    """Of its recording, else of its publication, in UTC."""
    recorded_at: datetime | None
    latitude: float | None = None
    longitude: float | None = None
    source: Literal["clip", "sample"] = "clip"


@dataclass(frozen=True)
class Entry:
    """One row of the dataset with its sound file; plain values, as the journal keeps them."""

    kind: Kind
    name: str
    """The file's name: CLIPID_START.ogg."""
    labels: tuple[str, ...]
    provenance: Provenance
    weight: float
    clip_id: str
    start_s: float
    end_s: float | None
    site: str
    stream: str
    day: str
    recorded_at: str | None
    seconds: float
    source: str
    latitude: float | None = None
    longitude: float | None = None

    @property
    def file(self) -> str:
        """Where the sound lies in the dataset's folder."""
        if self.kind == "train":
            return f"train_audio/{self.labels[0]}/{self.name}"
        return f"evaluation/train_soundscapes/{self.name}" if self.kind == "evaluation" else f"train_soundscapes/{self.name}"

    @property
    def identity(self) -> str:
        """What the digest is made of. The clip's id follows from the digest of its sound; the file's own bytes would not do, since each
        OGG stream carries a random number."""
        parts = (
            self.kind, self.name, self.labels, self.provenance, self.weight, self.clip_id, self.start_s, self.end_s,
            self.site, self.stream, self.day, self.recorded_at,
        )  # fmt: skip
        return json.dumps(parts)


def entry_of(piece: Piece, clip: Heard, seconds: float) -> Entry | None:
    """The row of a piece, or None where it may not be used.

    A day that is held out goes to evaluation, if labelers said what is there, and never to training: guides and models only ever
    teach, they do not judge.
    """
    held = held_out(clip.stream, clip.day)
    if held and piece.provenance not in ("expert", "agreed"):
        return None
    kind: Kind = "evaluation" if held else "train" if piece.labels else "background"
    return Entry(
        kind=kind,
        name=f"{clip.clip_id}_{piece.start_s:g}.ogg",
        labels=piece.labels,
        provenance=piece.provenance,
        weight=WEIGHTS[piece.provenance],
        clip_id=clip.clip_id,
        start_s=piece.start_s,
        end_s=piece.end_s,
        site=clip.site,
        stream=clip.stream,
        day=clip.day.isoformat(),
        recorded_at=clip.recorded_at.isoformat() if clip.recorded_at else None,
        seconds=seconds,
        source=clip.source,
        latitude=clip.latitude,
        longitude=clip.longitude,
    )


def load_entry(said: Mapping[str, Any]) -> Entry:
    """The entry that a journal's line holds."""
    return Entry(**{**said, "labels": tuple(said["labels"])})


def digest_of(entries: Iterable[Entry]) -> str:
    """Hex SHA-256 of what is in the dataset, whatever order it came in."""
    digest = hashlib.sha256()
    for line in sorted({entry.identity for entry in entries}):
        digest.update(line.encode() + b"\n")
    return digest.hexdigest()


def is_safe(label: str) -> bool:
    """Whether a label can be the name of a folder."""
    return label not in ("", ".", "..") and not {"/", "\0"} & set(label)


def write_tables(folder: Path, entries: Sequence[Entry], species: Mapping[str, Species], taxonomy: Sequence[str]) -> None:
    """Write all tables of the dataset, each whole; `species` by label, `taxonomy` the labels that it lists."""
    entries = sorted(entries, key=lambda entry: entry.file)
    header = ("primary_label", "scientific_name", "common_name", "class_name", "nombre_comun")
    rows = [{"primary_label": one.label, "scientific_name": one.scientific, "common_name": one.en, "class_name": one.taxon,
             "nombre_comun": one.es} for one in (species[label] for label in sorted(taxonomy))]  # fmt: skip
    evaluation = folder / "evaluation"
    _table(folder / "taxonomy.csv", header, rows)
    _table(evaluation / "taxonomy.csv", header, rows)
    _table(folder / "train.csv", (*TRAIN, *EXTRA), [_train_row(one, species[one.labels[0]]) for one in entries if one.kind == "train"])
    _table(evaluation / "train.csv", (*TRAIN, *EXTRA), [])  # no focal clips: the loader wants the table all the same
    background = [{"filename": one.name, **_extra(one)} for one in entries if one.kind == "background"]
    _table(folder / "background.csv", ("filename", *EXTRA), background)
    judged = [
        {"row_id": f"{PurePosixPath(one.name).with_suffix('')}_{end}", "labels": " ".join(one.labels), **_extra(one)}
        for one in entries
        if one.kind == "evaluation"
        for end in _ends(one.seconds)
    ]
    _table(evaluation / "soundscape_labels.csv", ("row_id", "labels", *EXTRA), judged)
    for sounds in (folder / "train_audio", folder / "train_soundscapes", evaluation / "train_soundscapes"):
        sounds.mkdir(parents=True, exist_ok=True)


def counts(entries: Iterable[Entry]) -> dict[str, dict[str, int]]:
    """Rows by kind and provenance."""
    found: dict[str, Counter[str]] = {"train": Counter(), "background": Counter(), "evaluation": Counter()}
    for entry in entries:
        found[entry.kind][entry.provenance] += 1
    return {kind: dict(sorted(by.items())) for kind, by in found.items()}


def _ends(seconds: float) -> list[int]:
    """Ends of the windows of a sound, in whole seconds as rows name them."""
    whole, rest = divmod(seconds, WINDOW_S)
    return [int((n + 1) * WINDOW_S) for n in range(max(1, int(whole) + (rest > TAIL_S)))]


def _train_row(entry: Entry, primary: Species) -> dict[str, Any]:
    return {
        "primary_label": entry.labels[0],
        "secondary_labels": str(list(entry.labels[1:])),
        "type": "[]",
        "filename": f"{entry.labels[0]}/{entry.name}",
        "collection": COLLECTION,
        "rating": 0,
        "latitude": entry.latitude,
        "longitude": entry.longitude,
        "scientific_name": primary.scientific,
        "common_name": primary.en,
        **_extra(entry),
    }


def _extra(entry: Entry) -> dict[str, Any]:
    return {name: value for name, value in asdict(entry).items() if name in EXTRA}


def _table(path: Path, header: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> None:
    out = io.StringIO(newline="")
    table = csv.DictWriter(out, header, restval="", lineterminator="\n")
    table.writeheader()
    table.writerows(rows)
    write_text(path, out.getvalue())
