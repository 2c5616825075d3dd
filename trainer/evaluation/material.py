"""What there is to judge by: focal clips that no training takes, and labelled soundscapes; apart, and frozen by a digest."""

from __future__ import annotations

import csv
import hashlib
import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path, PurePosixPath
from typing import Literal

from soundscape.audio import WINDOW_S
from soundscape.errors import Invalid, Reason
from soundscape.holdout import held_out
from soundscape.release import file_digest
from soundscape.taxonomy import Species
from trainer.data.catalog import Catalog, Clip, read_catalog
from trainer.data.split import VALIDATION, split
from trainer.evaluation.trained import Trained
from trainer.members.birdnet import PLACES

Kind = Literal["soundscapes", "focal"]
KINDS: tuple[Kind, ...] = ("soundscapes", "focal")
_MOMENT = re.compile(r"_(\d{8})_(\d{6})$")
_PREFIX = re.compile(r"^(XC|iNat|CSA|ML|WA|[A-Za-z]+)")


@dataclass(frozen=True)
class Sound:
    """One sound file with its truth."""

    path: Path
    name: str
    kind: Kind
    recording: str
    group: str
    """Stream and day: sounds of one place and day are alike."""
    source: str
    """The collection of a focal clip, the stream of a soundscape."""
    digest: str
    """SHA-256 of the file."""
    labels: tuple[str, ...] = ()
    """Of a focal clip: they hold for each of its windows."""
    rows: tuple[tuple[int, tuple[str, ...]], ...] = ()
    """Of a soundscape: number of the window, and who is to be heard in it."""
    recorded_at: datetime | None = None
    """On the clock of the place, marked as UTC: only day, month and hour are looked at."""
    events: tuple[tuple[float, float, str, float], ...] = ()
    """Calls at known strength: start, end, label, signal-to-noise in dB."""


@dataclass(frozen=True)
class EvaluationSet:
    """Everything that judges: the same names, contents and truth give the same digest."""

    folder: Path
    species: tuple[Species, ...]
    sounds: tuple[Sound, ...]
    clips: dict[str, int]
    """Clips of each label that the folder holds to learn from; empty where it holds none."""
    dropped: tuple[str, ...] = ()
    """Names of sounds that would judge, but were trained on."""

    @property
    def labels(self) -> tuple[str, ...]:
        """The columns of truth and scores, in plain string order."""
        return tuple(one.label for one in self.species)

    def of(self, kind: Kind) -> tuple[Sound, ...]:
        """The sounds of a kind."""
        return tuple(sound for sound in self.sounds if sound.kind == kind)

    @property
    def digest(self) -> str:
        """Hex SHA-256 of names, contents and truth."""
        digest = hashlib.sha256(json.dumps(self.labels).encode())
        for one in sorted(self.sounds, key=lambda sound: (sound.kind, sound.name)):
            digest.update(json.dumps([one.kind, one.name, one.digest, one.labels, one.rows]).encode())
        return digest.hexdigest()

    def without(self, trained: Iterable[Trained]) -> EvaluationSet:
        """The same without what one of these was trained on."""
        each = tuple(trained)
        kept = tuple(one for one in self.sounds if not any(known.knows(one.recording, one.group, one.digest) for known in each))
        names = {one.name for one in kept}
        return replace(self, sounds=kept, dropped=(*self.dropped, *(one.name for one in self.sounds if one.name not in names)))


def read_material(data: Path) -> EvaluationSet:
    """The evaluation set of a folder in BirdCLEF 2025's layout, or of one that `soundscape replay` made (its `evaluation` too).

    Focal clips: those that the fixed split keeps for validation, and those of held-out days. Raises Invalid if the folder does not have
    the layout, or holds nothing to judge by.
    """
    catalog = read_catalog(data)
    sounds = [*_focal(catalog), *_soundscapes(catalog.folder, catalog.placed)]
    own = catalog.folder / "evaluation"
    if (own / "soundscape_labels.csv").is_file():
        sounds += _soundscapes(own, frozenset())
    if not sounds:
        raise Invalid(Reason.BAD_REQUEST, f"{data} holds nothing to judge by: no labelled soundscapes, no clips kept out of training.")
    counts: dict[str, int] = {}
    for clip in catalog.clips:
        for label in clip.labels[:1]:
            counts[label] = counts.get(label, 0) + 1
    return EvaluationSet(catalog.folder, catalog.species, tuple(sounds), counts)


def sets_of(data: Path) -> dict[str, str]:
    """The digest of a folder's evaluation set by the folder's name; empty where it keeps nothing to judge by."""
    try:
        return {data.name: read_material(data).digest}
    except Invalid:
        return {}


def _focal(catalog: Catalog) -> list[Sound]:
    sides = split(catalog.clips, catalog.placed)
    said = {row["filename"]: row for row in _table(catalog.folder / "train.csv")}
    twins: dict[str, Sound] = {}
    for clip in catalog.clips:
        row, path = said[clip.filename], catalog.folder / "train_audio" / clip.filename
        kept = sides[clip.filename] == VALIDATION or _is_held_out(row)
        if not kept or not path.is_file():
            continue
        sound = _focal_sound(clip, path, row)
        twin = twins.get(sound.digest)  # the same sound in several species' folders: one, with the labels of all
        twins[sound.digest] = replace(twin, labels=tuple(dict.fromkeys((*twin.labels, *sound.labels)))) if twin else sound
    return list(twins.values())


def _focal_sound(clip: Clip, path: Path, row: dict[str, str]) -> Sound:
    prefix = _PREFIX.match(PurePosixPath(clip.filename).name)
    return Sound(
        path, f"train_audio/{clip.filename}", "focal", clip.recording,
        f"{row['stream']}/{row['day']}" if row.get("stream") and row.get("day") else clip.recording,
        row.get("collection") or (prefix.group() if prefix else "other"), file_digest(path), labels=clip.labels,
        recorded_at=_moment(path.stem, row),
    )  # fmt: skip


def _soundscapes(folder: Path, placed: frozenset[str]) -> list[Sound]:
    table = folder / "soundscape_labels.csv"
    by_stem: dict[str, list[dict[str, str]]] = {}
    for row in _table(table, ("row_id", "labels")) if table.is_file() else ():
        by_stem.setdefault(row["row_id"].rpartition("_")[0], []).append(row)
    events: dict[str, list[tuple[float, float, str, float]]] = {}
    heard = folder / "soundscape_events.csv"
    for row in _table(heard) if heard.is_file() else ():
        if row.get("snr_db"):
            known = (float(row["start"]), float(row["end"]), row["primary_label"], float(row["snr_db"]))
            events.setdefault(PurePosixPath(row["filename"]).stem, []).append(known)
    out = []
    for stem, rows in by_stem.items():
        path = folder / "train_soundscapes" / f"{stem}.ogg"
        if not path.is_file():
            continue
        truth = tuple((int(float(row["row_id"].rpartition("_")[2]) // WINDOW_S) - 1, tuple((row["labels"] or "").split())) for row in rows)
        moment = _moment(stem, rows[0])
        stream = rows[0].get("stream") or _MOMENT.sub("", stem)
        day = rows[0].get("day") or (f"{moment:%Y-%m-%d}" if moment else "")
        out.append(
            Sound(
                path, f"train_soundscapes/{stem}.ogg", "soundscapes", stem, f"{stream}/{day}", stream, file_digest(path),
                rows=tuple(sorted(truth)), recorded_at=moment, events=tuple(events.get(stem, ())),
            )
        )  # fmt: skip
    return out


def _is_held_out(row: dict[str, str]) -> bool:
    return bool(row.get("stream") and row.get("day")) and held_out(row["stream"], date.fromisoformat(row["day"]))


def _moment(stem: str, row: dict[str, str]) -> datetime | None:
    """The local moment in a file's name, as BirdCLEF writes it, else that of a log's `recorded_at`."""
    if found := _MOMENT.search(stem):
        try:
            return datetime.strptime("".join(found.groups()), "%Y%m%d%H%M%S").replace(tzinfo=UTC)
        except ValueError:
            return None
    if row.get("recorded_at"):
        moment = datetime.fromisoformat(row["recorded_at"]).astimezone(UTC)
        place = PLACES.get(row.get("site", ""))
        return moment + timedelta(hours=round(place[1] / 15) if place else 0)  # a log's times are in UTC; night is local
    return None


def _table(path: Path, wanted: Sequence[str] = ("filename",)) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file)
        if missing := set(wanted) - set(reader.fieldnames or ()):
            raise Invalid(Reason.BAD_REQUEST, f"{path} lacks the column {', '.join(sorted(missing))}.")
        try:
            return list(reader)
        except csv.Error as error:
            raise Invalid(Reason.BAD_REQUEST, f"{path} is no CSV ({error}).") from error
