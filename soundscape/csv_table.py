"""A table that somebody exported: CSV in UTF-8, with or without a spreadsheet's byte order mark."""

from __future__ import annotations

import csv
from pathlib import Path

from soundscape.errors import Invalid, Reason


def read_table(path: Path) -> tuple[list[str], list[dict[str, str]]]:
    """The columns and the rows of a table; a cell that its row lacks is None. Raises OSError, and Invalid for what is no CSV in UTF-8."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            return list(reader.fieldnames or ()), list(reader)
    except (UnicodeDecodeError, csv.Error) as error:
        raise Invalid(Reason.BAD_REQUEST, f"{path} is no CSV in UTF-8 ({error}); export it again.") from error
