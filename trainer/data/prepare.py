"""A data folder to a prepared data set: every file checked, split by recording, its mel power stored; goes on where it stopped."""

from __future__ import annotations

import errno
import hashlib
import json
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from filelock import FileLock, Timeout

from soundscape.errors import Invalid, Reason
from soundscape.features import LOG_MEL
from trainer.data import store
from trainer.data.catalog import Catalog, Clip, read_catalog
from trainer.data.hearing import LeftOut, hear
from trainer.data.integrity import Integrity, integrity_of
from trainer.data.listen import Heard
from trainer.data.speech import Speech, tagger_for_speech, without_speech
from trainer.data.split import TRAIN, VALIDATION, split
from trainer.members.body import Body
from trainer.progress import Counted

MIN_SPECIES = 2
"""A classifier of one species has nothing to tell apart."""


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
    speech: Speech | None = None
    """Human speech that training does not hear; None where nobody listened for it."""
    integrity: Integrity = field(default_factory=Integrity)


def folder_of(datasets: Path, catalog: Catalog) -> Path:
    """Where a data folder's prepared form lies: its name, and what it holds."""
    name = re.sub(r"[^A-Za-z0-9_.-]+", "-", catalog.folder.name).strip("-.") or "data"
    return datasets / f"{name}-{catalog.listing[:10]}"


def prepare(
    data: Path,
    datasets: Path,
    say: Callable[[str], None] = print,
    progress: Counted = lambda _n, _of: None,
    children: int | None = None,
) -> tuple[store.Prepared, Report]:
    """Prepare a data folder under `datasets`, in as many children as there are cores, or in `children`; 0 is this process.

    Where the settings name the tagger's weights, windows of training sound with human speech are left out (trainer/data/speech.py).

    What an earlier, interrupted run has stored is kept. Raises Invalid if the folder does not have the layout, if another
    process is preparing it, if the disk is full, or if nothing is left to learn from.
    """
    catalog = read_catalog(data)
    if catalog.clips and not (catalog.folder / "train_audio").is_dir():
        what = f"{catalog.folder} has no train_audio with the clips; give a folder in the layout of BirdCLEF 2025 (see README)."
        raise Invalid(Reason.BAD_REQUEST, what)
    tagger = tagger_for_speech()  # weights that are named and not there are said before the work
    folder = folder_of(datasets, catalog)
    try:
        for name in ("raw", "processed/train", "processed/validation", "processed/soundscapes", "models", "logs"):
            (folder / name).mkdir(parents=True, exist_ok=True)
        if not (folder / "raw" / "source").is_symlink():
            (folder / "raw" / "source").symlink_to(catalog.folder)  # the sounds stay where they are
        with FileLock(folder / "raw" / ".lock", timeout=0):
            return _prepare(catalog, folder, tagger, say, progress, children)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        what = f"The disk of {folder} is full; free some space and run the same command again, it goes on where it stopped."
        raise Invalid(Reason.BAD_REQUEST, what) from error
    except Timeout as error:
        raise Invalid(Reason.BAD_REQUEST, f"{folder.name} is being prepared by another process; wait for it.") from error


def _prepare(
    catalog: Catalog,
    folder: Path,
    tagger: tuple[Body, float] | None,
    say: Callable[[str], None],
    progress: Counted,
    children: int | None,
) -> tuple[store.Prepared, Report]:
    report = Report(str(catalog.folder), str(folder))
    sides = split(catalog.clips, catalog.placed)
    wanted = {
        **{f"train_audio/{clip.filename}": f"processed/{sides[clip.filename]}/{clip.filename}" for clip in catalog.clips},
        **{f"train_soundscapes/{name}": f"processed/soundscapes/{name}" for name in (*catalog.labelled, *catalog.unlabelled)},
    }
    wanted = {name: f"{file.removesuffix('.ogg')}.npy" for name, file in wanted.items()}
    heard = hear(catalog.folder, folder, wanted, progress, children)
    items = []
    merged, twin_of = _merged(catalog, heard, sides)
    by_name = {f"train_audio/{clip.filename}": clip for clip in merged}
    for name, file in wanted.items():
        found = heard[name]
        if isinstance(found, LeftOut):
            report.left_out.append(found)
            continue
        clip = by_name.get(name)
        if (twin := twin_of.get(name)) is not None:
            report.left_out.append(LeftOut(name, "duplicate", f"the same sound as {twin}, which carries its labels too"))
            continue
        role = sides[clip.filename] if clip else store.JUDGE if Path(name).name in catalog.labelled else store.BED
        labels = clip.labels if clip else ()
        recording, weight = (clip.recording, clip.weight) if clip else (Path(name).stem, 1.0)
        items.append(store.Item(name, role, labels, recording, file, found.taken, found.digest, weight))
        if found.cut:
            report.cut.append(name)
    if tagger is not None:
        say(f"Listening for human speech in what is learnt from, by the tagger {tagger[0].digest} ...")
        items, report.speech = without_speech(catalog.folder, folder, items, *tagger, progress, children)
        report.left_out += [LeftOut(name, "speech", "somebody speaks in nearly all of it") for name in report.speech.whole]
    known = {label for item in items if item.role == TRAIN for label in item.labels[:1]}
    if len(known) < MIN_SPECIES:
        raise Invalid(
            Reason.BAD_REQUEST, f"{catalog.folder} has sound to learn from of {len(known)} species; at least {MIN_SPECIES} are needed."
        )
    prepared = store.Prepared(folder, catalog.folder, _digest(catalog, items), LOG_MEL, catalog.species, tuple(items), catalog.rows)
    report.digest = prepared.digest
    report.placed = sum(clip.recording in catalog.placed for clip in catalog.clips)
    report.unseen = sorted(set(catalog.labels) - known)
    report.integrity = integrity_of(catalog, heard, items)
    _count(report, prepared)
    store.save(prepared)
    store.write_text(folder / "report.json", json.dumps(asdict(report), indent=1))
    unheard = "" if tagger else "; nobody listened for human speech (SOUNDSCAPE_TAGGER)"
    say(f"Prepared {len(items)} sounds in {folder}; left out {len(report.left_out)}{unheard}.")
    return prepared, report


def _merged(catalog: Catalog, heard: dict[str, Heard | LeftOut], sides: dict[str, str]) -> tuple[list[Clip], dict[str, str]]:
    """The clips, and whose twin each of the others is; one of those with the same sound carries the labels of all, the primary ones first.

    That is one that is judged by, if there is one: a sound that judges is not learnt from under another name.
    """
    twins: dict[str, list[Clip]] = {}
    for clip in catalog.clips:
        found = heard[f"train_audio/{clip.filename}"]
        if isinstance(found, Heard):
            twins.setdefault(found.sound, []).append(clip)
    merged, twin_of = list[Clip](), dict[str, str]()
    for same in twins.values():
        labels = [clip.labels[0] for clip in same] + [label for clip in same for label in clip.labels[1:]]
        first = min(same, key=lambda clip: sides[clip.filename] != VALIDATION)
        merged.append(replace(first, labels=tuple(dict.fromkeys([*first.labels[:1], *labels]))))
        twin_of |= {f"train_audio/{clip.filename}": f"train_audio/{first.filename}" for clip in same if clip.filename != first.filename}
    return merged, twin_of


def _digest(catalog: Catalog, items: list[store.Item]) -> str:
    digest = hashlib.sha256(LOG_MEL.fingerprint.encode())
    for item in sorted(items, key=lambda one: one.name):
        more = [*([item.weight] if item.weight != 1.0 else []), *([{"voices": item.voices}] if item.voices else [])]
        digest.update(json.dumps([item.name, item.role, item.labels, item.digest, *more]).encode())
    digest.update(json.dumps([asdict(row) for row in catalog.rows]).encode())
    digest.update(json.dumps(catalog.labels).encode())
    return digest.hexdigest()


def _count(report: Report, prepared: store.Prepared) -> None:
    for role in (TRAIN, VALIDATION, store.BED, store.JUDGE):
        items = prepared.of(role)
        windows = sum(store.count(prepared.decibels(item).shape[1]) - len(item.voices) for item in items)
        report.counts[role] = {"sounds": len(items), "windows": windows, "seconds": round(sum(item.seconds for item in items))}
    for role in (TRAIN, VALIDATION):
        for label, n in Counter(item.labels[0] for item in prepared.of(role)).items():
            report.by_species.setdefault(label, {TRAIN: 0, VALIDATION: 0})[role] = n


__all__ = ["LeftOut", "Report", "folder_of", "prepare"]
