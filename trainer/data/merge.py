"""Several data folders of one layout as one: links to the sounds, tables joined; the base first, what people said beside it.

The base's clips keep the side of the split that they had without the others: what a champion was not taught, its successor is not taught
either, so that both can be judged on it.
"""

from __future__ import annotations

import csv
import hashlib
import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from soundscape.csv_table import read_table
from soundscape.errors import Invalid, Reason
from trainer.data.catalog import read_catalog
from trainer.data.split import split

JUDGED = "evaluation"
"""Where a dataset made from the log keeps the labelled material of held-out days."""
TABLES = ("train.csv", "soundscape_labels.csv", "soundscape_events.csv")
"""Joined row by row; `taxonomy.csv` is joined by label."""


def merge(folders: Sequence[Path], home: Path) -> Path:
    """A folder under `home` that holds all of the folders, named by what they hold; the same folders give the same one.

    What they keep to judge by for ever (`evaluation`) is there too, so that what is trained on the folder is judged by it.

    Raises Invalid if a folder has no train.csv, if two hold another file under the same name, or if a label has two names.
    """
    folders = [folder.expanduser().absolute() for folder in folders]
    for folder in folders:
        if not (folder / "train.csv").is_file():
            raise Invalid(Reason.BAD_REQUEST, f"{folder} has no train.csv; make a dataset with `soundscape replay --out DIR`.")
    out = home / f"merged-{_digest(folders)}"
    if (out / "taxonomy.csv").is_file():
        return out
    part = out.with_name(f".{out.name}.{os.getpid()}")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    for kind in ("train_audio", "train_soundscapes", f"{JUDGED}/train_soundscapes"):
        for folder in folders:
            for path in sorted((folder / kind).rglob("*")) if (folder / kind).is_dir() else ():
                if path.is_file():
                    link(path, part / kind / path.relative_to(folder / kind))
    for name in (*TABLES, f"{JUDGED}/soundscape_labels.csv"):
        _join([folder / name for folder in folders if (folder / name).is_file()], part / name)
    if len(folders) > 1:
        _fix_sides(part / "train.csv", folders[0])
    _join_taxonomies([folder / "taxonomy.csv" for folder in folders if (folder / "taxonomy.csv").is_file()], part / "taxonomy.csv")
    part.rename(out)
    return out


def link(path: Path, target: Path) -> None:
    """Let `target` stand for a sound. Raises Invalid if it stands for another one already."""
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        target.symlink_to(path.resolve())
    except FileExistsError as error:
        if target.read_bytes() != path.read_bytes():
            raise Invalid(Reason.BAD_REQUEST, f"Two folders hold another {target.name} under the same name; rename one.") from error


def _join(tables: list[Path], out: Path) -> None:
    rows, columns = [], dict[str, None]()
    for table in tables:
        more, own = read_table(table)
        columns |= dict.fromkeys(more)
        rows += own
    if columns:
        out.parent.mkdir(exist_ok=True)
        write_table(out, list(columns), rows)


def _fix_sides(table: Path, base: Path) -> None:
    catalog = read_catalog(base)
    sides = split(catalog.clips, catalog.placed)
    columns, rows = read_table(table)
    for row in rows:
        row["side"] = sides.get(row["filename"], row.get("side") or "")
    write_table(table, list(dict.fromkeys([*columns, "side"])), rows)


def _join_taxonomies(tables: list[Path], out: Path) -> None:
    by_label: dict[str, dict[str, str]] = {}
    columns = dict[str, None]()
    for table in tables:
        more, rows = read_table(table)
        columns |= dict.fromkeys(more)
        for row in rows:
            known = by_label.setdefault(row["primary_label"], row)
            if known["scientific_name"] != row["scientific_name"]:
                what = f"{row['primary_label']} is {known['scientific_name']} in one folder and {row['scientific_name']} in another"
                raise Invalid(Reason.BAD_REQUEST, f"{what}; a label has one name.")
    write_table(out, list(columns), [by_label[label] for label in sorted(by_label)])


def write_table(path: Path, columns: list[str], rows: list[dict[str, str]]) -> None:
    """Write a table; what a row lacks is empty. Raises OSError."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns, restval="")
        writer.writeheader()
        writer.writerows(rows)


def _digest(folders: Sequence[Path]) -> str:
    digest = hashlib.sha256(b"sides kept")
    for folder in folders:
        for path in sorted(path for path in folder.rglob("*") if path.is_file()):
            digest.update(f"{path.relative_to(folder)} {path.stat().st_size}\n".encode())
            if path.suffix == ".csv":
                digest.update(path.read_bytes())
    return digest.hexdigest()[:12]
