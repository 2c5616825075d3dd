"""The archive's tables as Parquet, one file a day, each replaced whole: `TABLE/day=YYYY-MM-DD/part-0.parquet`."""

from __future__ import annotations

import os
from collections.abc import Sequence
from datetime import date
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from consumers.archive_rows import Row

MOMENT = pa.timestamp("us", tz="UTC")
TEXTS = pa.list_(pa.string())
_CLIP = [
    ("clip_id", pa.string()), ("site", pa.string()), ("stream", pa.string()), ("tour_id", pa.string()), ("recorder", pa.string()),
    ("recorded_at", MOMENT), ("published_at", MOMENT), ("latitude", pa.float64()), ("longitude", pa.float64()),
    ("release", pa.string()), ("role", pa.string()),
]  # fmt: skip
_SPECIES = pa.struct(
    [
        ("label", pa.string()), ("taxon", pa.string()), ("status", pa.string()), ("clips", pa.int64()), ("windows", pa.int64()),
        ("confidence", pa.float64()), ("best_clip", pa.string()), ("first_at", MOMENT), ("last_at", MOMENT),
        ("latitude", pa.float64()), ("longitude", pa.float64()), ("by_person", pa.bool_()),
    ]
)  # fmt: skip
SCHEMAS = {
    "clips": pa.schema([*_CLIP, ("file_name", pa.string()), ("client", pa.string()), ("seconds", pa.float64()), ("answer", pa.string())]),
    "detections": pa.schema(
        [
            *_CLIP, ("label", pa.string()), ("scientific", pa.string()), ("en", pa.string()), ("es", pa.string()), ("taxon", pa.string()),
            ("confidence", pa.float64()), ("unweighted", pa.float64()), ("threshold", pa.float64()), ("start_s", pa.float64()),
            ("end_s", pa.float64()), ("status", pa.string()), ("by", TEXTS),
        ]
    ),
    "feedback": pa.schema(
        [
            ("feedback_id", pa.string()), ("clip_id", pa.string()), ("site", pa.string()), ("stream", pa.string()),
            ("tour_id", pa.string()), ("verdict", pa.string()), ("labels", TEXTS), ("heard", TEXTS), ("note", pa.string()),
            ("release", pa.string()),
            ("recorded_at", MOMENT), ("by", pa.string()), ("given_at", MOMENT),
        ]
    ),
    "labels": pa.schema(
        [
            ("label_id", pa.string()), ("clip_id", pa.string()), ("site", pa.string()), ("stream", pa.string()), ("tour_id", pa.string()),
            ("start_s", pa.float64()), ("end_s", pa.float64()), ("verdict", pa.string()), ("labels", TEXTS), ("by", pa.string()),
            ("provenance", pa.string()), ("stratum", pa.string()), ("review", pa.int64()), ("note", pa.string()), ("labelled_at", MOMENT),
        ]
    ),
    "tours": pa.schema(
        [
            ("tour_id", pa.string()), ("site", pa.string()), ("stream", pa.string()), ("started_at", MOMENT), ("ended_at", MOMENT),
            ("at", MOMENT), ("clips", pa.int64()), ("species", TEXTS), ("effort_minutes", pa.float64()), ("diversity", pa.int64()),
            ("diversity_per_hour", pa.float64()), ("feedback", pa.int64()), ("rating", pa.int64()), ("note", pa.string()),
            ("by", pa.string()), ("releases", TEXTS), ("heard", pa.list_(_SPECIES)),
        ]
    ),
}  # fmt: skip
"""Columns of each table. `clips` has every answered clip, also those in which nothing was heard: the effort behind the detections."""
KEYS = {
    "clips": ("clip_id",), "detections": ("clip_id", "start_s", "label"), "feedback": ("feedback_id",), "labels": ("label_id",),
    "tours": ("tour_id",),
}  # fmt: skip
"""The order of rows, so that the same rows make the same file."""


def day_path(folder: Path, table: str, day: date) -> Path:
    """Where a day's rows lie."""
    return folder / table / f"day={day.isoformat()}" / "part-0.parquet"


def read_day(folder: Path, table: str, day: date) -> list[Row]:
    """A day's rows; none if there is no file. Raises OSError (a damaged file too)."""
    path = day_path(folder, table, day)
    if not path.is_file():
        return []
    try:
        rows: list[Row] = pq.read_table(path, schema=SCHEMAS[table], partitioning=None).to_pylist()
    except pa.ArrowException as error:
        raise OSError(f"{path} is damaged ({error}); move it away") from error
    return rows


def write_day(folder: Path, table: str, day: date, rows: Sequence[Row]) -> None:
    """Put a day's rows in place of what was there, whole and on the disk; without rows there is no file. Raises OSError."""
    path = day_path(folder, table, day)
    if not rows:
        path.unlink(missing_ok=True)
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")  # readers of Parquet pass over names with a dot
    ordered = sorted(rows, key=lambda row: tuple(row[name] for name in KEYS[table]))
    try:
        with temporary.open("wb") as file:
            pq.write_table(pa.Table.from_pylist(ordered, SCHEMAS[table]), file, compression="zstd")
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
