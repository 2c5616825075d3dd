"""What lies in a folder of BirdCLEF 2025's layout: species, focal clips with their labels, soundscapes and their truth."""

from __future__ import annotations

import ast
import hashlib
import re
from dataclasses import dataclass
from datetime import date as Day
from pathlib import Path, PurePosixPath

from soundscape.audio import WINDOW_S
from soundscape.csv_table import read_table
from soundscape.errors import Invalid, Reason
from soundscape.taxonomy import Species, read_taxonomy
from trainer.data.dates import read_dates, recorded_on

_COLLECTION_ID = re.compile(r"^(XC|iNat|CSA|ML|WA)\d+")
"""Xeno-canto, iNaturalist, Humboldt's CSA, Macaulay: the id ends where the number ends, whatever follows in the name."""


@dataclass(frozen=True)
class Clip:
    """One focal clip: where it lies under `train_audio`, what calls in it (the primary label first), its recording."""

    filename: str
    labels: tuple[str, ...]
    recording: str
    weight: float = 1.0
    """How much it counts beside others of its species: what a guide said counts less than what two experts said."""
    date: Day | None = None
    """The day on which it was recorded, where that is known."""
    side: str = ""
    """`train` or `validation` where the folder's table fixes it; drawn by the split where it does not."""


@dataclass(frozen=True)
class Row:
    """Five seconds of a labelled soundscape: `STEM_ENDSECOND` and who is to be heard there."""

    row_id: str
    labels: tuple[str, ...]

    @property
    def stem(self) -> str:
        """The soundscape's file name without its ending."""
        return self.row_id.rpartition("_")[0]


@dataclass(frozen=True)
class Catalog:
    """A data folder, read but not heard."""

    folder: Path
    species: tuple[Species, ...]
    clips: tuple[Clip, ...]
    rows: tuple[Row, ...]
    placed: frozenset[str]
    """Recordings of which a clip was placed in a labelled soundscape: never to be trained on."""
    labelled: tuple[str, ...]
    """File names under `train_soundscapes` that have rows."""
    unlabelled: tuple[str, ...]
    """The other file names there: what the place sounds like."""

    @property
    def labels(self) -> tuple[str, ...]:
        """Every label, in plain string order: the columns of truth and of scores."""
        return tuple(one.label for one in self.species)

    @property
    def listing(self) -> str:
        """Hex SHA-256 of the tables and of every file's name and size: cheap, and other when files come or go."""
        digest = hashlib.sha256()
        for path in sorted(self.folder.glob("*.csv")):
            digest.update(path.name.encode() + path.read_bytes())
        sounds = [*(f"train_audio/{clip.filename}" for clip in self.clips)]
        sounds += [f"train_soundscapes/{name}" for name in (*self.labelled, *self.unlabelled)]
        for name in sorted(sounds):
            path = self.folder / name
            digest.update(f"{name} {path.stat().st_size if path.is_file() else 'missing'}\n".encode())
        return digest.hexdigest()


def parse_labels(text: str) -> tuple[str, ...]:
    """The labels in BirdCLEF's list in a string; `['']`, `[]` and nothing are none.

    Raises Invalid if the text is no list of strings.
    """
    if not text.strip():
        return ()
    try:
        found = ast.literal_eval(text)
    except (ValueError, SyntaxError) as error:
        raise _invalid(f"{text!r} is not a list of labels; write ['LABEL', 'LABEL'] or []") from error
    if not isinstance(found, list) or not all(isinstance(one, str) for one in found):
        raise _invalid(f"{text!r} is not a list of labels; write ['LABEL', 'LABEL'] or []")
    return tuple(dict.fromkeys(one.strip() for one in found if one.strip()))


def recording_of(filename: str) -> str:
    """The recording that a clip was taken from: the collection's id in its name, else the name; the folder says nothing."""
    stem = PurePosixPath(filename).stem
    found = _COLLECTION_ID.match(stem)
    return found.group() if found else stem


def read_catalog(folder: Path) -> Catalog:
    """Read a folder's tables. Raises Invalid if `train.csv` or `taxonomy.csv` is missing or does not fit the layout."""
    folder = folder.expanduser().absolute()
    for name in ("train.csv", "taxonomy.csv"):
        if not (folder / name).is_file():
            raise _invalid(f"{folder} has no {name}; give a folder in the layout of BirdCLEF 2025 (see README)")
    species = tuple(read_taxonomy(folder / "taxonomy.csv"))
    known = {one.label for one in species}
    clips, dates = [], read_dates(folder)
    for row in _read(folder / "train.csv", ("primary_label", "filename")):
        if not row["primary_label"] or not row["filename"]:
            raise _invalid(f"train.csv has a row without primary_label or filename ({row}); fill it in, or leave the row out")
        labels = (row["primary_label"], *parse_labels(row.get("secondary_labels") or ""))
        if row["primary_label"] not in known:
            raise _invalid(f"train.csv names {row['primary_label']!r}, which taxonomy.csv lacks; add it there")
        if ".." in PurePosixPath(row["filename"]).parts or row["filename"].startswith("/"):
            raise _invalid(f"train.csv names {row['filename']!r}; file names stay inside train_audio")
        heard = tuple(one for one in dict.fromkeys(labels) if one in known)
        day = recorded_on(row, recording_of(row["filename"]), dates)
        clips.append(Clip(row["filename"], heard, _together(row), _weight(row), day, _side(row)))
    rows, events = read_rows(folder), folder / "soundscape_events.csv"
    if rows and not any(_names_a_window(row.row_id) for row in rows):
        raise _invalid("soundscape_labels.csv has no row that names a window; write STEM_ENDSECOND, every 5 s from 5")
    placed = {recording_of(row["clip"]) for row in _read(events, ("filename",)) if row.get("clip")} if events.is_file() else set()
    stems = {row.stem for row in rows}
    there = sorted(path.name for path in (folder / "train_soundscapes").glob("*.ogg")) if (folder / "train_soundscapes").is_dir() else []
    return Catalog(
        folder=folder,
        species=species,
        clips=tuple(clips),
        rows=rows,
        placed=frozenset(placed),
        labelled=tuple(name for name in there if Path(name).stem in stems),
        unlabelled=tuple(name for name in there if Path(name).stem not in stems),
    )


def _names_a_window(row_id: str) -> bool:
    end = row_id.rpartition("_")[2]
    return end.isdecimal() and int(end) > 0 and int(end) % WINDOW_S == 0


def _together(row: dict[str, str]) -> str:
    """What must stay on one side of a split: in a dataset made from the log a stream's whole day, else the recording."""
    if row.get("stream") and row.get("day"):
        return f"{row['stream']}/{row['day']}"
    return recording_of(row["filename"])


def _weight(row: dict[str, str]) -> float:
    """The column `weight` of a dataset made from the log; 1 where there is none. Raises Invalid."""
    try:
        weight = float(row.get("weight") or 1.0)
    except ValueError as error:
        raise _invalid(f"train.csv has the weight {row['weight']!r}; it must be a number") from error
    if not 0.0 < weight <= 10.0:
        raise _invalid(f"train.csv has the weight {weight:g}; it must lie above 0 and at most at 10")
    return weight


def _side(row: dict[str, str]) -> str:
    """The column `side` of a folder that was put together from others; empty where there is none. Raises Invalid."""
    side = row.get("side") or ""
    if side not in ("", "train", "validation"):
        raise _invalid(f"train.csv has the side {side!r}; it must be train or validation, or empty")
    return side


def read_rows(folder: Path) -> tuple[Row, ...]:
    """The rows of `soundscape_labels.csv`; none if there is no such file."""
    path = folder / "soundscape_labels.csv"
    if not path.is_file():
        return ()
    return tuple(Row(row["row_id"], tuple((row["labels"] or "").split())) for row in _read(path, ("row_id", "labels")))


def _read(path: Path, wanted: tuple[str, ...]) -> list[dict[str, str]]:
    columns, rows = read_table(path)
    if missing := set(wanted) - set(columns):
        raise _invalid(f"{path} lacks the column {', '.join(sorted(missing))}; add it")
    return rows


def _invalid(what: str) -> Invalid:
    return Invalid(Reason.BAD_REQUEST, f"{what}.")
