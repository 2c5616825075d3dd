"""What a simulation is to record, in the order in which it is due: the synthetic forest's minutes and tours, or a folder's."""

from __future__ import annotations

import csv
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from fnmatch import fnmatch
from pathlib import Path

from producers.recordings import MINUTE_S, Overlay, Rows, Take
from producers.scenes import ROW_S, PlacedCall
from producers.watcher import recorded_at, stream_of
from soundscape.audio import WINDOW_S
from soundscape.errors import Invalid, Reason

CLIPS_A_FILE = int(MINUTE_S / WINDOW_S)
"""Clips that a tour cuts from a soundscape before it takes the next."""


@dataclass(frozen=True)
class Plan:
    """How much is recorded, and from when (local time)."""

    began: datetime
    recorders: int
    minutes: int
    """Of each recorder."""
    tours: int
    clips: int
    """Of each tour."""
    seed: int
    overlay: Overlay | None = None


def forest_takes(plan: Plan) -> list[Take]:
    """Takes of the synthetic forest."""
    takes = [
        Take(f"REC{n + 1:02d}", n, m, plan.began + timedelta(minutes=m), m * MINUTE_S, plan.seed, overlay=plan.overlay)
        for n in range(plan.recorders)
        for m in range(plan.minutes)
    ]
    takes += [Take(tour_name(plan.began, n), n, 0, plan.began, 0.0, plan.seed, clips=plan.clips) for n in range(plan.tours)]
    return in_order(takes)


def folder_takes(plan: Plan, soundscapes: Sequence[Path], truth: dict[str, Rows], calls: dict[str, tuple[PlacedCall, ...]]) -> list[Take]:
    """Takes of a folder's soundscapes, dealt out to the recorders; tours cut their clips from the same files.

    With one file name prefix for each recorder wanted, or more, a file stays with the recorder that it names.
    """
    chosen = list(soundscapes)[: plan.recorders * plan.minutes]
    own = len({stream_of(path.stem) for path in chosen}) >= plan.recorders
    names = sorted({stream_of(path.stem) for path in chosen}) if own else [f"REC{n + 1:02d}" for n in range(plan.recorders)]
    made: dict[str, int] = defaultdict(int)
    takes = []
    for n, path in enumerate(chosen):
        name = stream_of(path.stem) if own else names[n % len(names)]
        moment = recorded_at(path.stem) or plan.began + timedelta(minutes=made[name])
        take = Take(name, names.index(name), made[name], moment, made[name] * MINUTE_S, plan.seed, overlay=plan.overlay)
        takes.append(replace(take, file=path, rows=truth.get(path.stem), calls=calls.get(path.stem, ())))
        made[name] += 1
    for tour in range(plan.tours):
        for first in range(0, plan.clips, CLIPS_A_FILE):
            path = soundscapes[(tour + first // CLIPS_A_FILE) % len(soundscapes)]
            began, count = plan.began + timedelta(seconds=first * WINDOW_S), min(CLIPS_A_FILE, plan.clips - first)
            take = Take(tour_name(plan.began, tour), tour, first, began, first * WINDOW_S, plan.seed, clips=count)
            takes.append(replace(take, file=path, rows=truth.get(path.stem), calls=calls.get(path.stem, ())))
    return in_order(takes)


def in_order(takes: list[Take]) -> list[Take]:
    """As they are due; a tour's clips need no whole minute and go first."""
    return sorted(takes, key=lambda take: (take.due_s, not take.clips, take.number))


def tour_name(began: datetime, number: int) -> str:
    """The id of a tour: of another start it is another tour."""
    return f"TOUR{number + 1:02d}-{began:%Y%m%dT%H%M%S}"


def soundscapes_of(data: Path, only: str = "*", labelled: bool = False) -> list[Path]:
    """The files of `data`/train_soundscapes whose name or stem fits the glob `only`; if `labelled`, those whose truth is known.

    Raises Invalid if there is none.
    """
    known = {row_id.rpartition("_")[0] for row_id in _rows(data)} if labelled else None
    found = [
        path
        for path in sorted((data / "train_soundscapes").glob("*.ogg"))
        if (fnmatch(path.name, only) or fnmatch(path.stem, only)) and (known is None or path.stem in known)
    ]
    if not found:
        which = f"{'labelled ' if labelled else ''}soundscape" + (f" named {only}" if only != "*" else "")
        raise Invalid(Reason.BAD_REQUEST, f"There is no {which} in {data / 'train_soundscapes'}; give a folder in BirdCLEF's layout.")
    return found


def truth_of(data: Path) -> tuple[dict[str, Rows], dict[str, tuple[PlacedCall, ...]]]:
    """Labels by row and placed calls of each soundscape, by stem; empty where the folder has no truth. Raises Invalid."""
    rows: dict[str, dict[int, tuple[str, ...]]] = defaultdict(dict)
    for row_id, labels in _rows(data).items():
        stem, _, end = row_id.rpartition("_")
        if not end.isdigit():
            raise Invalid(Reason.BAD_REQUEST, f"soundscape_labels.csv has the row_id {row_id}; it must end in _SECOND.")
        rows[stem][int(int(end) / ROW_S) - 1] = tuple(sorted(labels.split()))
    whole = {stem: tuple(found.get(n, ()) for n in range(max(found) + 1)) for stem, found in rows.items()}
    calls: dict[str, list[PlacedCall]] = defaultdict(list)
    path = data / "soundscape_events.csv"
    try:
        for row in _read(path) if path.is_file() else ():
            call = PlacedCall(float(row["start"]), float(row["end"]), row["primary_label"], float(row["snr_db"]), row.get("clip") or "")
            calls[Path(row["filename"]).stem].append(call)
    except (KeyError, ValueError) as error:
        columns = "filename, start, end, primary_label, clip, snr_db"
        raise Invalid(Reason.BAD_REQUEST, f"{path} does not hold ({error}); its columns are {columns}.") from error
    return whole, {stem: tuple(sorted(found)) for stem, found in calls.items()}


def overlay_of(data: Path, snr_db: float) -> Overlay:
    """All labelled recordings of a folder, to be laid over soundscapes. Raises Invalid if there is none."""
    path = data / "train.csv"
    rows = _read(path) if path.is_file() else []
    files = [(row["primary_label"], data / "train_audio" / row["filename"]) for row in rows]
    there = tuple((label, file) for label, file in files if file.is_file())
    if not there:
        raise Invalid(Reason.BAD_REQUEST, f"{data} has no labelled recordings in train_audio; --overlay takes calls from there.")
    return Overlay(there, snr_db)


def _rows(data: Path) -> dict[str, str]:
    path = data / "soundscape_labels.csv"
    return {row["row_id"]: row["labels"] or "" for row in _read(path)} if path.is_file() else {}


def _read(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))
