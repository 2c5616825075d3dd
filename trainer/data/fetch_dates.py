"""The dates of a data folder's recordings: asked of their collections, kept by recording for every folder, written into dates.csv."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from filelock import FileLock, Timeout

from soundscape.csv_table import read_table
from soundscape.errors import Invalid, Reason, SoundscapeError
from soundscape.settings import Settings
from trainer.data.catalog import Clip, read_catalog
from trainer.data.date_sources import PAUSE_S, Asker, Found, inaturalist, xeno_canto
from trainer.data.dates import DATES
from trainer.data.merge import write_table
from trainer.data.notes import noted, noting
from trainer.progress import Progress

XENO_CANTO, INATURALIST, OTHERS = "xeno-canto", "iNaturalist", "others"
NO_SOURCE, NO_KEY, NOT_ASKED, REFUSED, DATED = "no source", "no key", "not asked: network", "not asked: key refused", "dated"


@dataclass
class Fetched:
    """What became of the recordings that had no date."""

    table: Path
    counts: Counter[tuple[str, str]] = field(default_factory=Counter)
    """By collection and by what became of them."""
    recordings: int = 0
    dated: int = 0
    added: int = 0
    stopped: SoundscapeError | None = None
    """Why not all were asked, to be raised when the rest is told."""


def fetch_dates(settings: Settings, data: Path, progress: Progress, pause: float = PAUSE_S) -> Fetched:
    """Ask for every recording without a date, and write those found into the folder's dates.csv, beside what stands there.

    What a collection has answered is kept under `dates/` in the data directory, one JSON line a recording, and not asked again. Raises
    Invalid if the folder does not have the layout, or if another process asks; OSError if the folder cannot be written.
    """
    catalog = read_catalog(data)
    home = settings.root / "dates"
    home.mkdir(parents=True, exist_ok=True)
    dated = {clip.recording for clip in catalog.clips if clip.date is not None}
    open_ones = {clip.recording: clip for clip in catalog.clips if clip.recording not in dated}
    found = Fetched(catalog.folder / DATES, recordings=len(dated) + len(open_ones))
    days: dict[str, str] = {}
    try:
        with FileLock(home / ".lock", timeout=0):
            for collection, answers in _sources(settings, catalog.folder, open_ones, pause):
                mine = [one for one in open_ones if collection_of(one) == collection]
                for one in _kept(home / f"{collection}.jsonl", mine, answers, found, collection, progress):
                    if one.day:
                        days[one.recording] = one.day
    except Timeout as error:
        raise Invalid(Reason.BAD_REQUEST, "Dates are being fetched by another process; wait for it.") from error
    found.counts[OTHERS, NO_SOURCE] = sum(collection_of(one) == OTHERS for one in open_ones)
    found.counts = +found.counts
    _write(found.table, days)
    found.added, found.dated = len(days), len(dated) + len(days)
    return found


def collection_of(recording: str) -> str:
    """Who can be asked; nobody publishes the dates of the Humboldt Institute's collection (CSA) by recording."""
    for prefix, name in (("XC", XENO_CANTO), ("iNat", INATURALIST)):
        if recording.startswith(prefix) and recording.removeprefix(prefix).isdigit():
            return name
    return OTHERS


Answers = Callable[[list[str]], Iterator[Found]]


def _sources(settings: Settings, folder: Path, clips: Mapping[str, Clip], pause: float) -> Iterable[tuple[str, Answers | None]]:
    """Each collection with what asks it; None where there is no key."""
    rows = {row["filename"]: row.get("url") or "" for row in read_table(folder / "train.csv")[1]}
    taxa = {row["primary_label"]: row.get("inat_taxon_id") or "" for row in read_table(folder / "taxonomy.csv")[1]}

    def observations(names: list[str]) -> Iterator[Found]:
        with Asker("iNaturalist", settings.inaturalist_url, pause=pause) as asker:
            yield from inaturalist(asker, {one: (rows[clips[one].filename], taxa[clips[one].labels[0]]) for one in names})

    def numbers(names: list[str]) -> Iterator[Found]:
        assert settings.xeno_canto_key is not None
        secret = {"key": settings.xeno_canto_key.get_secret_value()}
        with Asker("Xeno-canto", settings.xeno_canto_url, secret, pause) as asker:
            yield from xeno_canto(asker, names)

    yield INATURALIST, observations
    yield XENO_CANTO, numbers if settings.xeno_canto_key else None


def _kept(
    notes: Path, names: list[str], answers: Answers | None, found: Fetched, collection: str, progress: Progress
) -> Iterator[Found]:
    """What is known of these recordings, from earlier runs or asked now; every one of them is counted."""
    known = {one["recording"]: Found(one["recording"], one["date"], one["reason"]) for one in noted(notes)}
    todo = [one for one in names if one not in known]
    for one in (known[name] for name in names if name in known):
        found.counts[collection, one.reason or DATED] += 1
        yield one
    if not todo:
        return
    asked, why = 0, NO_KEY
    if answers is None:
        cure = "set it to the key that your account at xeno-canto.org shows, or give a dates.csv (README)"
        found.stopped = found.stopped or Invalid(Reason.BAD_REQUEST, f"SOUNDSCAPE_XENO_CANTO_KEY is not set; {cure}.")
    else:
        try:
            with noting(notes) as note:
                for one in answers(todo):
                    note({"recording": one.recording, "date": one.day, "reason": one.reason})
                    asked += 1
                    found.counts[collection, one.reason or DATED] += 1
                    progress(f"{collection}: recordings", len(names) - len(todo) + asked, len(names))
                    yield one
        except SoundscapeError as error:
            found.stopped = found.stopped or error
            why = REFUSED if isinstance(error, Invalid) else NOT_ASKED
    found.counts[collection, why] += len(todo) - asked


def _write(table: Path, days: Mapping[str, str]) -> None:
    """Put days into dates.csv, whole or not at all; what stands there stays."""
    if not days:
        return
    columns, rows = read_table(table) if table.is_file() else ([], [])
    columns = list(dict.fromkeys([*columns, "recording", "date"]))
    part = table.with_name(f".{table.name}.{os.getpid()}.part")
    write_table(part, columns, [*rows, *({"recording": one, "date": day} for one, day in sorted(days.items()))])
    part.replace(table)
