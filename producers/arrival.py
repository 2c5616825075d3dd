"""Whether a file has arrived whole: nobody writes it, and its OGG says that it ended."""

from __future__ import annotations

import errno
import fcntl
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from producers.ledger import Look

SETTLE_S = 10.0
"""Seconds without a change after which a file that does not end as an OGG should is sent as it is, to get its refusal."""
_END_OF_STREAM = 0x04
"""Bit of an OGG page's header type (RFC 3533): the last page of its stream."""


class Arrived(NamedTuple):
    """A whole file: how it looks, and its bytes (None beyond the limit: it is refused unread)."""

    look: Look
    body: bytes | None


@dataclass
class Arrivals:
    """Files on their way, by name."""

    largest: int
    """Bytes beyond which a file is not read."""
    _seen: dict[str, tuple[Look, float, bool]] = field(default_factory=dict)
    """Its last look, since when, and whether its bytes were found to be unfinished."""

    def arrived(self, path: Path, look: Look, now: float) -> Arrived | None:
        """The file if it is whole as it looks, at `now` in seconds of a clock that only goes forward; else None: ask again later.

        Raises OSError if it cannot be read.
        """
        name = path.name
        seen, since, unfinished = self._seen.get(name, (None, now, False))
        if seen != look:
            since, unfinished = now, False
        self._seen[name] = (look, since, unfinished)
        settled = now - since >= SETTLE_S
        if unfinished and not settled:
            return None
        with path.open("rb") as file:
            if being_written(file.fileno()):
                self._seen[name] = (look, now, False)
                return None
            body = file.read() if look.size <= self.largest else None
            if look_of(os.fstat(file.fileno())) != look or look_of(path.stat()) != look:
                return None
        if not settled and (body is None or not ends(body)):
            self._seen[name] = (look, since, True)
            return None
        del self._seen[name]
        return Arrived(look, body)

    def forget(self, present: set[str]) -> None:
        """Drop the files that are no longer there."""
        for name in self._seen.keys() - present:
            del self._seen[name]


def look_of(stat: os.stat_result) -> Look:
    """Size and time of change."""
    return Look(stat.st_size, stat.st_mtime_ns)


def ends(body: bytes) -> bool:
    """Whether the bytes are OGG pages to the last one, and that one ends its stream.

    A page is 27 bytes, a table of segment sizes, and their sum of bytes (RFC 3533). Half a file that was cut between two pages
    has no last page.
    """
    at, kind = 0, 0
    while body[at : at + 4] == b"OggS" and at + 27 <= len(body):
        kind = body[at + 5]
        at += 27 + body[at + 26] + sum(body[at + 27 : at + 27 + body[at + 26]])
    return bool(at) and at == len(body) and bool(kind & _END_OF_STREAM)


def being_written(descriptor: int) -> bool:
    """Whether some process has the file open for writing: Linux grants a read lease only where none has.

    False where the file system or the file's owner allows no lease: then SETTLE_S and `ends` alone decide.
    """
    try:
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_RDLCK)
    except OSError as error:
        return error.errno in (errno.EAGAIN, errno.EBUSY)
    fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    return False
