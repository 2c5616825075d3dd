"""A data folder of a few seconds in BirdCLEF's layout, made from tones, for tests and for trying things out."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import soundfile

RATE = 32_000
VOICES = {"10": (900.0, 6.0, "Amphibia"), "2": (2600.0, 14.0, "Insecta"), "abcdef1": (5200.0, 3.0, "Aves")}
"""Pitch in Hz, pulses a second, and class of each label; plain string order puts "10" before "2"."""


def call(label: str, seconds: float, rng: np.random.Generator, noise: float = 0.003) -> np.ndarray[tuple[int], np.dtype[np.float32]]:
    """Pulsed tone of a label over faint noise, float32 at 32 kHz."""
    pitch, pulses, _ = VOICES[label]
    t = np.arange(int(seconds * RATE)) / RATE
    wave = 0.3 * np.sin(2 * np.pi * pitch * rng.uniform(0.95, 1.05) * t) * (np.sin(2 * np.pi * pulses * t) > 0)
    return np.asarray(wave + rng.normal(0, noise, t.size), np.float32)


def write_folder(folder: Path, clips: int = 8, seconds: float = 5.0, minutes: int = 1) -> Path:
    """Write the folder: `clips` of each label, a labelled soundscape of 15 s for each of `minutes`, one without labels."""
    rng = np.random.default_rng(5)
    rows = []
    for label in VOICES:
        for n in range(clips):
            name = f"{label}/XC{1000 * (1 + list(VOICES).index(label)) + n}.ogg"
            _write(folder / "train_audio" / name, call(label, seconds, rng))
            rows.append({"primary_label": label, "secondary_labels": "['']" if n % 2 else "[]", "filename": name})
    _table(folder / "train.csv", rows)
    names = [(label, f"Vox {label}", f"Voice {label}", taxon) for label, (_, _, taxon) in VOICES.items()]
    _table(
        folder / "taxonomy.csv",
        [dict(zip(("primary_label", "scientific_name", "common_name", "class_name"), one, strict=True)) for one in names],
    )
    truth, events = [], []
    for minute in range(minutes):
        stem = f"TST_20260101_00{minute:02d}00"
        parts = []
        for n, label in enumerate(VOICES):
            parts.append(call(label, 5.0, rng, 0.02))
            truth.append({"row_id": f"{stem}_{5 * (n + 1)}", "labels": label})
            events.append(
                {"filename": f"{stem}.ogg", "start": 5.0 * n, "end": 5.0 * (n + 1), "primary_label": label, "clip": "", "snr_db": 10.0}
            )
        _write(folder / "train_soundscapes" / f"{stem}.ogg", np.concatenate(parts))
    if minutes:
        _table(folder / "soundscape_labels.csv", truth)
        _table(folder / "soundscape_events.csv", events)
    _write(folder / "train_soundscapes" / "BED_20260101_000000.ogg", rng.normal(0, 0.05, 12 * RATE).astype(np.float32))
    return folder


def _write(path: Path, wave: np.ndarray[tuple[int], np.dtype[np.float32]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, wave, RATE, format="OGG", subtype="VORBIS")


def _table(path: Path, rows: Sequence[Mapping[str, object]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        table = csv.DictWriter(file, list(rows[0]))
        table.writeheader()
        table.writerows(rows)
