"""The folders of a rehearsal: what was recorded first, what of the rest is learnt from, and what it is judged by; links and tables."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

from soundscape.audio import SAMPLE_RATE, window_starts
from soundscape.csv_table import read_table
from soundscape.errors import Invalid, Reason
from trainer.data.catalog import Catalog, Clip, read_catalog
from trainer.data.merge import link, write_table
from trainer.data.split import TRAIN, VALIDATION
from trainer.data.time_split import LATER, NEW, OLDER, TimeSplit, time_split

LONGEST_S = 60
"""Of a longer clip its first minute teaches (trainer/data/listen.py)."""
SIDES = {OLDER: None, NEW: TRAIN, LATER: VALIDATION}
"""Of the older recordings some are kept for validation by the split; of the others all are learnt from, or none."""


@dataclass(frozen=True)
class Folders:
    """Three folders in BirdCLEF's layout, and how they came about."""

    home: Path
    older: Path
    new: Path
    later: Path
    split: TimeSplit
    windows: int
    """New labelled windows that are learnt from."""
    chosen: int
    """Of how many recordings they are."""


def folders_of(data: Path, home: Path, windows: int) -> Folders:
    """The folders of a data folder under `home`, with at most so many new labelled windows; the same data and number give the same.

    Raises Invalid if the folder does not have the layout, or has nothing newer to learn from or to judge by.
    """
    catalog = read_catalog(data)
    split = time_split(catalog.clips, catalog.placed)
    new, count = choose(catalog, split, windows)
    if not new or LATER not in split.sides.values():
        what = "learn from" if not new else "judge by"
        raise Invalid(Reason.BAD_REQUEST, f"{data} has nothing newer to {what}; a species needs at least 2 recordings, the folder several.")
    name = re.sub(r"[^A-Za-z0-9_.-]+", "-", catalog.folder.name).strip("-.") or "data"
    key = hashlib.sha256(f"{catalog.listing} {catalog.folder} {windows}".encode()).hexdigest()[:10]
    out = home / f"{name}-{key}"
    older, learnt, later = (out / f"{name}-{side}" for side in SIDES)
    _write(catalog, older, {one for one, side in split.sides.items() if side == OLDER}, OLDER)
    _write(catalog, learnt, {clip.filename for clip in new}, NEW)
    _write(catalog, later, {one for one, side in split.sides.items() if side == LATER}, LATER)
    return Folders(out, older, learnt, later, split, count, len({clip.recording for clip in new}))


def choose(catalog: Catalog, split: TimeSplit, windows: int) -> tuple[list[Clip], int]:
    """Clips of the new half with at most so many windows, and how many windows they have.

    Whole recordings, from one species after the other, by the hash of their ids: as a labeler is shown them, not the longest first.
    """
    by_recording: dict[str, list[Clip]] = defaultdict(list)
    for clip in catalog.clips:
        if split.sides[clip.filename] == NEW:
            by_recording[clip.recording].append(clip)
    by_species: dict[str, list[str]] = defaultdict(list)
    for recording in sorted(by_recording, key=lambda one: hashlib.sha256(one.encode()).digest()):
        by_species[by_recording[recording][0].labels[0]].append(recording)
    turns = sorted((turn, label, one) for label, some in by_species.items() for turn, one in enumerate(some))
    chosen: list[Clip] = []
    taken = 0
    for _, _, recording in turns:
        clips = by_recording[recording]
        count = sum(windows_of(catalog.folder / "train_audio" / clip.filename) for clip in clips)
        if count and taken + count <= windows:
            chosen += clips
            taken += count
    return chosen, taken


def windows_of(path: Path) -> int:
    """Windows of 5 s that a sound teaches; 0 of a file that is no sound."""
    import soundfile

    try:
        found = soundfile.info(path)
    except (soundfile.LibsndfileError, OSError):
        return 0
    return len(window_starts(int(min(LONGEST_S, found.frames / found.samplerate) * SAMPLE_RATE)))


def _write(catalog: Catalog, folder: Path, names: set[str], side: str) -> None:
    """Write a folder with these clips, whole or not at all; the older one has the soundscapes too, for they are the base's."""
    if folder.is_dir():
        return
    part = folder.with_name(f".{folder.name}.{os.getpid()}")
    shutil.rmtree(part, ignore_errors=True)
    for name in sorted(names):
        if (sound := catalog.folder / "train_audio" / name).is_file():
            link(sound, part / "train_audio" / name)
    if side == OLDER:
        for name in (*catalog.labelled, *catalog.unlabelled):
            link(catalog.folder / "train_soundscapes" / name, part / "train_soundscapes" / name)
        for table in ("soundscape_labels.csv", "soundscape_events.csv"):
            if (catalog.folder / table).is_file():
                link(catalog.folder / table, part / table)
    part.mkdir(parents=True, exist_ok=True)
    columns, rows = read_table(catalog.folder / "train.csv")
    rows = [row for row in rows if row["filename"] in names]
    if fixed := SIDES[side]:
        columns, rows = list(dict.fromkeys([*columns, "side"])), [{**row, "side": fixed} for row in rows]
    write_table(part / "train.csv", columns, rows)
    link(catalog.folder / "taxonomy.csv", part / "taxonomy.csv")
    part.rename(folder)
