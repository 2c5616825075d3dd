"""When a clip was recorded: by the folder's tables, else by the date in its file name, as recorders and collections write it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import date
from pathlib import Path, PurePosixPath

from soundscape.csv_table import read_table
from soundscape.errors import Invalid, Reason

DATES = "dates.csv"
"""Beside train.csv: `date`, and `filename` or `recording`; for folders whose train.csv has no dates."""
_IN_NAME = re.compile(r"(?<![0-9A-Za-z])((?:19|20)\d\d)(\d\d)(\d\d)(?!\d)")
"""YYYYMMDD after a separator: the number of a collection (iNat20170802) follows its letters, and is none."""


def named_day(filename: str) -> date | None:
    """The first day that stands in a file's name as YYYYMMDD; None where none does."""
    for found in _IN_NAME.finditer(PurePosixPath(filename).name):
        try:
            return date(*map(int, found.groups()))
        except ValueError:
            continue
    return None


def read_dates(folder: Path) -> dict[str, date]:
    """The days of a folder's `dates.csv` by file name or recording; none if there is no such file.

    Raises Invalid if a column is missing, or a date is none.
    """
    path = folder / DATES
    if not path.is_file():
        return {}
    columns, rows = read_table(path)
    if "date" not in columns or not {*columns} & {"filename", "recording"}:
        raise Invalid(Reason.BAD_REQUEST, f"{path} lacks a column; it needs date, and filename or recording.")
    out = {}
    for row in rows:
        name = row.get("filename") or row.get("recording")
        if not name or not row["date"]:
            continue
        day = _day(row["date"])
        if day is None:
            raise Invalid(Reason.BAD_REQUEST, f"{path} has the date {row['date']!r}; write YYYY-MM-DD, or leave the row out.")
        out[name] = day
    return out


def recorded_on(row: Mapping[str, str], recording: str, listed: Mapping[str, date]) -> date | None:
    """The day of a row of train.csv: its `date` (of a dataset made from the log its `day`), else the listed one, else the name's.

    Collections have dates such as 2012-00-00 in theirs: such a one is unknown, and refuses nobody's folder.
    """
    told = _day(row.get("date") or row.get("day") or "")
    return told or listed.get(row["filename"]) or listed.get(recording) or named_day(row["filename"])


def _day(text: str) -> date | None:
    """A day as ISO writes it, a time behind it left out; None for anything else."""
    try:
        return date.fromisoformat(text.strip()[:10])
    except ValueError:
        return None
