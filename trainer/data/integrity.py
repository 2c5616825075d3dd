"""What a data folder is worth: lengths, ratings, rare species, the same sound under two names, and what the splits keep apart."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from soundscape.csv_table import read_table
from soundscape.errors import Invalid, Reason
from trainer.data import store
from trainer.data.catalog import Catalog
from trainer.data.listen import Heard
from trainer.data.split import TRAIN, VALIDATION
from trainer.data.time_split import time_split

RARE = 10
"""Clips of a species; with fewer it is named (39 of BirdCLEF 2025's 206 are)."""


@dataclass(frozen=True)
class Integrity:
    """Counts, for `report.json` and a table."""

    seconds: dict[str, float] = field(default_factory=dict)
    """min, median, p95 and max of the sounds as they lie in the folder, and their sum: whole, not the first minute alone."""
    ratings: dict[str, int] = field(default_factory=dict)
    """Rows of train.csv by rating, `none` for 0 and for nothing; empty where there is no such column."""
    rare: dict[str, int] = field(default_factory=dict)
    """Clips that can be learnt from or judged by, of each species that has fewer than RARE; 0 is among them."""
    same_bytes: tuple[tuple[str, ...], ...] = ()
    """Files that are the same, byte by byte, under several names."""
    same_sound: tuple[tuple[str, ...], ...] = ()
    """Other files whose first minute decodes to the same sound."""
    recordings: dict[str, int] = field(default_factory=dict)
    """Recordings on each side of the split; `shared` lie in several species' folders, `on both sides` is 0."""
    by_time: dict[str, int] = field(default_factory=dict)
    """Recordings older, new and later by the time split, and those of them without a date."""


def integrity_of(catalog: Catalog, heard: Mapping[str, object], items: Sequence[store.Item]) -> Integrity:
    """Look at a folder whose sounds were heard: `heard` is Heard, or why not, by name. Raises Invalid if a rating is no number."""
    there = {name: one for name, one in heard.items() if isinstance(one, Heard)}
    by_bytes, by_sound = defaultdict[str, list[str]](list), defaultdict[str, list[str]](list)
    for name, one in there.items():
        by_bytes[one.digest].append(name)
        if name == by_bytes[one.digest][0]:
            by_sound[one.sound].append(name)
    clips = Counter(item.labels[0] for item in items if item.role in (TRAIN, VALIDATION))
    return Integrity(
        _lengths([one.seconds for one in there.values()]),
        _ratings(catalog),
        {label: clips[label] for label in catalog.labels if clips[label] < RARE},
        tuple(tuple(names) for names in by_bytes.values() if len(names) > 1),
        tuple(tuple(names) for names in by_sound.values() if len(names) > 1),
        _recordings(catalog, items),
        _by_time(catalog),
    )


def _lengths(seconds: Sequence[float]) -> dict[str, float]:
    if not seconds:
        return {}
    found = dict(zip(("min", "median", "p95", "max"), np.percentile(seconds, (0, 50, 95, 100)), strict=True))
    return {name: round(float(one), 1) for name, one in {**found, "sum": sum(seconds)}.items()}


def _ratings(catalog: Catalog) -> dict[str, int]:
    columns, rows = read_table(catalog.folder / "train.csv")
    counts: Counter[float] = Counter()
    for row in rows if "rating" in columns else ():
        try:
            counts[float(row["rating"] or 0.0)] += 1
        except ValueError as error:
            what = f"Train.csv has the rating {row['rating']!r} for {row['filename']}; write a number from 0 (none) to 5."
            raise Invalid(Reason.BAD_REQUEST, what) from error
    return {f"{rating:g}" if rating else "none": n for rating, n in sorted(counts.items())}


def _recordings(catalog: Catalog, items: Sequence[store.Item]) -> dict[str, int]:
    species = defaultdict[str, set[str]](set)
    for clip in catalog.clips:
        species[clip.recording].add(clip.labels[0])
    train, validation = ({item.recording for item in items if item.role == role} for role in (TRAIN, VALIDATION))
    shared = sum(len(labels) > 1 for labels in species.values())
    return {TRAIN: len(train), VALIDATION: len(validation), "shared": shared, "on both sides": len(train & validation)}


def _by_time(catalog: Catalog) -> dict[str, int]:
    found = time_split(catalog.clips, catalog.placed)
    return {**found.recordings, "undated": found.undated}
