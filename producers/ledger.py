"""Which files of the watched folder were dealt with, on the disk: none is sent again after a restart, none left out."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path
from typing import NamedTuple

_TABLE = """
CREATE TABLE IF NOT EXISTS files (
    name BLOB PRIMARY KEY, size INTEGER NOT NULL, mtime_ns INTEGER NOT NULL, sha256 TEXT NOT NULL,
    clip_id TEXT NOT NULL, what TEXT NOT NULL
) STRICT
"""


class Look(NamedTuple):
    """What a look at a file's entry shows; a file whose look changed is a new file."""

    size: int
    mtime_ns: int


class Ledger:
    """The files dealt with, by name: the last look at each, its SHA-256, its clip, and `sent` or `refused`."""

    def __init__(self, path: Path) -> None:
        """Raises OSError or sqlite3.Error."""
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._db = sqlite3.connect(path, isolation_level=None)
        self._db.execute(_TABLE)
        rows = self._db.execute("SELECT name, size, mtime_ns FROM files")
        self._looks = {os.fsdecode(name): Look(size, mtime_ns) for name, size, mtime_ns in rows}

    def knows(self, name: str, look: Look) -> bool:
        """Whether this file, as it looks, was dealt with."""
        return self._looks.get(name) == look

    def record(self, name: str, look: Look, sha256: str, clip_id: str, what: str) -> None:
        """Write down, on the disk, that a file was dealt with; only after the broker's acknowledgement. Raises sqlite3.Error."""
        self._db.execute("REPLACE INTO files VALUES (?, ?, ?, ?, ?, ?)", (os.fsencode(name), *look, sha256, clip_id, what))
        self._looks[name] = look

    def close(self) -> None:
        """Close the file."""
        self._db.close()
