"""The files of a BirdCLEF 2025 folder: sound, tables and truth, each written whole or not at all."""

from __future__ import annotations

import csv
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
import soundfile
from numpy.typing import NDArray

from producers.notes import RATE
from producers.scenes import ROW_S, PlacedCall, labels_of_rows
from producers.species import INHABITANTS

BLOCK = 4 * RATE
"""Vorbis is written four seconds at a time; libsndfile is known to crash on one huge write."""


def write_whole(path: Path, write: Callable[[Path], object]) -> None:
    """Let `write` fill a temporary file, then give it its name."""
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        write(part)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def write_ogg(path: Path, wave: NDArray[np.float32]) -> None:
    """Write float32 mono at 32 kHz as OGG Vorbis, whole or not at all (a temporary name, then renamed)."""
    path.parent.mkdir(parents=True, exist_ok=True)

    def write(part: Path) -> None:
        with soundfile.SoundFile(part, "w", samplerate=RATE, channels=1, format="OGG", subtype="VORBIS") as file:
            for at in range(0, len(wave), BLOCK):
                file.write(wave[at : at + BLOCK])

    write_whole(path, write)


def write_csv(path: Path, columns: Sequence[str], rows: Iterable[Mapping[str, object]]) -> None:
    """Write a table with these columns, whole or not at all. Raises OSError."""
    def write(part: Path) -> None:
        with part.open("w", newline="", encoding="utf-8") as file:
            table = csv.DictWriter(file, columns, lineterminator="\n")
            table.writeheader()
            table.writerows(rows)

    write_whole(path, write)


def write_truth(folder: Path, minutes: Sequence[tuple[str, Sequence[PlacedCall]]]) -> None:
    """Write `soundscape_events.csv` and `soundscape_labels.csv` for one-minute files given as (stem, calls)."""
    events = [
        {
            "filename": f"{stem}.ogg",
            "start": call.start,
            "end": call.end,
            "primary_label": call.label,
            "clip": call.clip,
            "snr_db": call.snr_db,
        }
        for stem, calls in minutes
        for call in calls
    ]
    write_csv(folder / "soundscape_events.csv", ["filename", "start", "end", "primary_label", "clip", "snr_db"], events)
    rows = [
        {"row_id": f"{stem}_{int((index + 1) * ROW_S)}", "labels": " ".join(labels)}
        for stem, calls in minutes
        for index, labels in enumerate(labels_of_rows(calls))
    ]
    write_csv(folder / "soundscape_labels.csv", ["row_id", "labels"], rows)


def write_taxonomy(folder: Path) -> None:
    """Write `taxonomy.csv`, with the Spanish names in a column of their own."""
    rows = [
        {
            "primary_label": one.species.label,
            "inat_taxon_id": one.species.label if one.species.label.isdigit() else 9_001_000 + index,
            "scientific_name": one.species.scientific,
            "common_name": one.species.en,
            "nombre_comun": one.species.es,
            "class_name": one.species.taxon,
        }
        for index, one in enumerate(INHABITANTS)
    ]
    columns = ["primary_label", "inat_taxon_id", "scientific_name", "common_name", "nombre_comun", "class_name"]
    write_csv(folder / "taxonomy.csv", columns, rows)
