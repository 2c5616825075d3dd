"""What long work has found so far, a JSON line each: an interrupted run goes on from what is noted."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any


def noted(path: Path) -> list[dict[str, Any]]:
    """Every whole note, in order; none where there is no file, and a line that a kill cut off counts for nothing."""
    found = []
    for line in path.read_text(encoding="utf-8").splitlines() if path.is_file() else ():
        try:
            found.append(json.loads(line))
        except json.JSONDecodeError:
            continue
    return found


@contextmanager
def noting(path: Path) -> Iterator[Callable[[Mapping[str, Any]], None]]:
    """What adds a note, on the disk's way when it returns. Raises OSError as writing does."""
    with path.open("ab+") as book:
        if book.seek(0, os.SEEK_END):
            book.seek(-1, os.SEEK_END)
            if book.read(1) != b"\n":  # a line that a kill cut off would take the next one with it
                book.write(b"\n")

        def note(one: Mapping[str, Any]) -> None:
            book.write(json.dumps(one).encode() + b"\n")
            book.flush()

        yield note
