"""Which labelled material is kept to judge by, for ever: a pure function of stream and day, the same for everybody who asks."""

from __future__ import annotations

import hashlib
from datetime import date

SHARE = 5
"""One part in so many of all streams' days."""


def held_out(stream: str, day: date) -> bool:
    """Whether what was recorded by this stream on this day (in UTC) belongs to evaluation and never to training.

    The SHA-256 of `STREAM/YYYY-MM-DD` as a fraction, below a fifth: sounds of one place and day are much alike, so they stay together.
    """
    digest = hashlib.sha256(f"{stream}/{day.isoformat()}".encode()).digest()
    return int.from_bytes(digest) * SHARE < 1 << (8 * len(digest))
