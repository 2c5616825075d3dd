"""What was made of a clip and lies on this machine: removed when a voice was heard in it."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

from soundscape.answers import write_whole
from soundscape.derived import derived_folders
from soundscape.settings import Settings

log = logging.getLogger(__name__)

REPORT = "report.html"
"""The page of an evaluation: its worst errors are in it, to be heard."""
REPORTS = ("evaluations", "mlflow", "datasets")
"""Folders of the data folder under which such a page, or MLflow's copy of it, may lie."""


def erase(settings: Settings, clip_id: str) -> list[Path]:
    """Remove what was made of a clip's sound; returns the files and folders that are gone.

    That is, in the data folder and in every folder that a replay or an export was written to: what has the clip's id in its name; in
    prepared data sets also what is named by the digest of such a sound, and windows that were composed of it; and each evaluation's
    page that names the clip, whole. Links are removed, not followed. Rows inside larger files (Parquet, CSV) stay: they hold no sound.

    What is named by the clip goes last: it says by which digests the rest is found, should this be cut off. Raises OSError where a file
    cannot be read or removed, after all others are gone, and ValueError for what is no clip id.
    """
    wanted = str(UUID(clip_id))
    named = list(_named(settings, wanted))
    digests = {digest for path in named for digest in _digests(path)}
    erased, troubles = [], list[OSError]()
    for dataset in sorted((settings.root / "datasets").glob("*/processed")):
        try:
            erased += _erase_prepared(dataset.parent, wanted, digests)
        except OSError as error:  # the others go all the same
            troubles.append(error)
    for page in _pages(settings, wanted):
        page.unlink(missing_ok=True)
        erased.append(page)
        log.warning("the evaluation's page %s held sound of clip %s and was removed whole; its numbers stay in report.json", page, wanted)
        if settings.mlflow_uri:
            log.warning("a copy of it may lie on %s and has to be removed there by hand", settings.mlflow_uri)
    for path in named:
        shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink(missing_ok=True)
        erased.append(path)
    if erased:
        log.info("clip %s: %d derived files erased", wanted, len(erased))
    if troubles:
        raise troubles[0]
    return erased


def _named(settings: Settings, wanted: str) -> Iterator[Path]:
    """The files and folders whose name holds the clip's id; of a folder not what is in it."""
    for home in derived_folders(settings):
        for where, folders, files in os.walk(home):
            doomed = [name for name in (*folders, *files) if wanted in name]
            folders[:] = [name for name in folders if wanted not in name]
            yield from (Path(where, name) for name in doomed)


def _digests(path: Path) -> Iterator[str]:
    """Hex SHA-256 of a sound file, of all sounds in a folder, or of what a link stands for; nothing where it is gone."""
    for file in path.rglob("*.ogg") if path.is_dir() and not path.is_symlink() else [path]:
        if file.suffix == ".ogg" and file.is_file():
            with file.open("rb") as sound:
                yield hashlib.file_digest(sound, "sha256").hexdigest()


def _erase_prepared(folder: Path, wanted: str, digests: set[str]) -> list[Path]:
    """Remove from a prepared data set what lies there under a sound's digest, and the sound from its list."""
    table = folder / "dataset.json"
    try:
        body: dict[str, Any] = json.loads(table.read_text(encoding="utf-8")) if table.is_file() else {"items": []}
        doomed = [item for item in body["items"] if wanted in item["name"] or item["digest"] in digests]
    except (ValueError, KeyError, TypeError) as error:
        raise OSError(f"{table} is no list of a prepared data set; remove its folder, or prepare it again") from error
    digests = digests | {item["digest"] for item in doomed}
    files = [folder / item["file"] for item in doomed]
    files += [folder / "processed" / "judged" / f"{digest[:20]}.npy" for digest in digests]
    for heard in (folder / "processed").glob("embeddings-*"):
        files += [heard / f"{digest}.npy" for digest in digests]
        if doomed:  # which sounds a composed window holds is written nowhere; without this one others are composed
            files += [*heard.glob("scenes-*.npz"), *heard.glob(".*.part")]
    for taught in (folder / "processed").glob("taught-*") if doomed else ():
        files += [*taught.glob("*.npz"), *taught.glob(".*.part")]
    erased = [file for file in files if file.is_file()]
    for file in erased:
        file.unlink()
    if doomed:
        body["items"] = [item for item in body["items"] if item not in doomed]
        write_whole(table, json.dumps(body, indent=1).encode())
    return erased


def _pages(settings: Settings, wanted: str) -> list[Path]:
    """The evaluations' pages that name the clip."""
    found = (page for home in REPORTS for page in sorted((settings.root / home).rglob(REPORT)))
    return [page for page in found if wanted.encode() in page.read_bytes()]
