"""A data folder to a prepared data set: every file checked, split by recording, its mel power stored; goes on where it stopped."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import re
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from soundscape.errors import Invalid, Reason
from soundscape.features import LOG_MEL
from soundscape.isolation import ChildPool
from trainer import store
from trainer.catalog import Catalog, Clip, read_catalog
from trainer.listen import Heard, listen
from trainer.split import TRAIN, VALIDATION, split

FILES_A_CHILD = 24
"""A child takes some seconds to start, in which the others hear this many files."""
MIN_SPECIES = 2
"""A classifier of one species has nothing to tell apart."""


@dataclass(frozen=True)
class LeftOut:
    """A file that nothing is learnt from, and why."""

    name: str
    reason: str
    detail: str


@dataclass
class Report:
    """What became of a data folder. `counts` is clips and windows by role; `by_species` is clips by label and role."""

    source: str
    folder: str
    digest: str = ""
    feature_fingerprint: str = LOG_MEL.fingerprint
    counts: dict[str, dict[str, int]] = field(default_factory=dict)
    by_species: dict[str, dict[str, int]] = field(default_factory=dict)
    placed: int = 0
    """Clips kept out of training because their recording is heard in a labelled soundscape."""
    cut: list[str] = field(default_factory=list)
    """Files of which only the first minute was taken."""
    left_out: list[LeftOut] = field(default_factory=list)
    unseen: list[str] = field(default_factory=list)
    """Labels without a single training clip: the model cannot know them."""


def folder_of(datasets: Path, catalog: Catalog) -> Path:
    """Where a data folder's prepared form lies: its name, and what it holds."""
    name = re.sub(r"[^A-Za-z0-9_.-]+", "-", catalog.folder.name).strip("-.") or "data"
    return datasets / f"{name}-{catalog.listing[:10]}"


def prepare(
    data: Path,
    datasets: Path,
    say: Callable[[str], None] = print,
    progress: Callable[[int, int], None] | None = None,
    children: int | None = None,
) -> tuple[store.Prepared, Report]:
    """Prepare a data folder under `datasets`, in as many children as there are cores, or in `children`; 0 is this process.

    What an earlier, interrupted run has stored is kept. Raises Invalid if the folder does not have the layout, if another
    process is preparing it, or if nothing is left to learn from.
    """
    catalog = read_catalog(data)
    folder = folder_of(datasets, catalog)
    for name in ("raw", "processed/train", "processed/validation", "processed/soundscapes", "models", "logs"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    if not (folder / "raw" / "source").is_symlink():
        (folder / "raw" / "source").symlink_to(catalog.folder)  # the sounds stay where they are
    try:
        with FileLock(folder / "raw" / ".lock", timeout=0):
            return _prepare(catalog, folder, say, progress, children)
    except Timeout as error:
        raise Invalid(Reason.BAD_REQUEST, f"{folder.name} is being prepared by another process; wait for it.") from error


def _prepare(
    catalog: Catalog,
    folder: Path,
    say: Callable[[str], None],
    progress: Callable[[int, int], None] | None,
    children: int | None,
) -> tuple[store.Prepared, Report]:
    report = Report(str(catalog.folder), str(folder))
    sides = split(catalog.clips, catalog.placed)
    wanted = {
        **{f"train_audio/{clip.filename}": f"processed/{sides[clip.filename]}/{clip.filename}" for clip in catalog.clips},
        **{f"train_soundscapes/{name}": f"processed/soundscapes/{name}" for name in (*catalog.labelled, *catalog.unlabelled)},
    }
    wanted = {name: str(Path(file).with_suffix(".npy")) for name, file in wanted.items()}
    heard = asyncio.run(_hear(catalog.folder, folder, wanted, progress, children))
    items = []
    first_with: dict[str, str] = {}
    by_name = {f"train_audio/{clip.filename}": clip for clip in _merged(catalog, heard)}
    for name, file in wanted.items():
        found = heard[name]
        if isinstance(found, LeftOut):
            report.left_out.append(found)
            continue
        clip = by_name.get(name)
        if clip is not None and (twin := first_with.setdefault(found.digest, name)) != name:
            report.left_out.append(LeftOut(name, "duplicate", f"the same sound as {twin}, which carries its labels too"))
            continue
        role = sides[clip.filename] if clip else store.JUDGE if Path(name).name in catalog.labelled else store.BED
        labels = clip.labels if clip else ()
        recording, weight = (clip.recording, clip.weight) if clip else (Path(name).stem, 1.0)
        items.append(store.Item(name, role, labels, recording, file, found.seconds, found.digest, weight))
        if found.cut:
            report.cut.append(name)
    known = {label for item in items if item.role == TRAIN for label in item.labels[:1]}
    if len(known) < MIN_SPECIES:
        raise Invalid(
            Reason.BAD_REQUEST, f"{catalog.folder} has sound to learn from of {len(known)} species; at least {MIN_SPECIES} are needed."
        )
    prepared = store.Prepared(folder, catalog.folder, _digest(catalog, items), LOG_MEL, catalog.species, tuple(items), catalog.rows)
    report.digest = prepared.digest
    report.placed = sum(clip.recording in catalog.placed for clip in catalog.clips)
    report.unseen = sorted(set(catalog.labels) - known)
    _count(report, prepared)
    store.save(prepared)
    store.write_text(folder / "report.json", json.dumps(asdict(report), indent=1))
    say(f"Prepared {len(items)} sounds in {folder}; left out {len(report.left_out)}.")
    return prepared, report


def _merged(catalog: Catalog, heard: dict[str, Heard | LeftOut]) -> Iterable[Clip]:
    """The clips; of the same sound in several species' folders the first carries the labels of all, the primary ones first."""
    twins: dict[str, list[Clip]] = {}
    for clip in catalog.clips:
        found = heard[f"train_audio/{clip.filename}"]
        if isinstance(found, Heard):
            twins.setdefault(found.digest, []).append(clip)
    for same in twins.values():
        labels = [clip.labels[0] for clip in same] + [label for clip in same for label in clip.labels[1:]]
        yield replace(same[0], labels=tuple(dict.fromkeys(labels)))
        yield from same[1:]


async def _hear(
    source: Path, folder: Path, wanted: dict[str, str], progress: Callable[[int, int], None] | None, children: int | None
) -> dict[str, Heard | LeftOut]:
    """Every sound heard, those of an earlier run from the ledger."""
    ledger = folder / "raw" / "ledger.jsonl"
    before = _read_ledger(ledger)
    done: dict[str, Heard | LeftOut] = {}
    todo = []
    for name, file in wanted.items():
        entry = before.get(name)
        if entry and entry["stamp"] == _stamp(source / name) and entry["file"] == file and (folder / file).is_file():
            done[name] = Heard(**entry["heard"])
        else:
            todo.append(name)
    if progress:
        progress(len(done), len(wanted))
    if not todo:
        return done
    cores = len(os.sched_getaffinity(0))
    wish = min(cores, -(-len(todo) // FILES_A_CHILD)) if children is None else children
    pool, gate = ChildPool(wish) if wish else None, asyncio.Semaphore(cores * 4)

    async def one(name: str) -> None:
        async with gate:
            try:
                paths = source / name, folder / wanted[name]
                heard = await pool.run(listen, *paths) if pool else listen(*paths)
            except Invalid as error:
                done[name] = LeftOut(name, str(error.reason), error.detail)
            else:
                done[name] = heard
                entry = {"name": name, "file": wanted[name], "stamp": _stamp(source / name), "heard": asdict(heard)}
                book.write(json.dumps(entry) + "\n")
                book.flush()
            if progress:
                progress(len(done), len(wanted))

    with ledger.open("a", encoding="utf-8") as book:
        try:
            await asyncio.gather(*(one(name) for name in todo))
        finally:
            if pool:
                pool.close()
    return done


def _read_ledger(path: Path) -> dict[str, dict[str, Any]]:
    """Entries by name; the last one counts, and a line that a kill cut off counts for nothing."""
    entries = {}
    if path.is_file():
        for line in path.read_text(encoding="utf-8").splitlines():
            try:
                entry = json.loads(line)
            except json.JSONDecodeError:
                continue
            entries[entry["name"]] = entry
    return entries


def _stamp(path: Path) -> list[int] | None:
    """Size and time of a file, other when it was changed."""
    try:
        found = path.stat()
    except OSError:
        return None
    return [found.st_size, found.st_mtime_ns]


def _digest(catalog: Catalog, items: list[store.Item]) -> str:
    digest = hashlib.sha256(LOG_MEL.fingerprint.encode())
    for item in sorted(items, key=lambda one: one.name):
        digest.update(json.dumps([item.name, item.role, item.labels, item.digest, *([item.weight] if item.weight != 1.0 else [])]).encode())
    digest.update(json.dumps([asdict(row) for row in catalog.rows]).encode())
    digest.update(json.dumps(catalog.labels).encode())
    return digest.hexdigest()


def _count(report: Report, prepared: store.Prepared) -> None:
    for role in (TRAIN, VALIDATION, store.BED, store.JUDGE):
        items = prepared.of(role)
        windows = sum(store.count(prepared.decibels(item).shape[1]) for item in items)
        report.counts[role] = {"sounds": len(items), "windows": windows, "seconds": round(sum(item.seconds for item in items))}
    for role in (TRAIN, VALIDATION):
        for label, n in Counter(item.labels[0] for item in prepared.of(role)).items():
            report.by_species.setdefault(label, {TRAIN: 0, VALIDATION: 0})[role] = n


__all__ = ["LeftOut", "Report", "folder_of", "prepare"]
