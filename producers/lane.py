"""The bulk lane as the broker tells it: a folder of a year's recordings must not outrun what the topic keeps."""

from __future__ import annotations

import time

from soundscape.kafka import backlog, new_admin
from soundscape.settings import Settings
from soundscape.topics import RECORDINGS

LOOK_S = 5.0
"""Seconds between two questions to the broker: does it answer, and how long is the backlog."""
GROUP = "analyse-bulk"


class Lane:
    """How many more clips the lane takes before its backlog is full."""

    def __init__(self, settings: Settings) -> None:
        """Raises Unavailable."""
        self._limit, self._admin = settings.max_backlog_clips, new_admin(settings)
        self._asked_at, self._free = float("-inf"), 0

    def has_room(self) -> bool:
        """Whether one more clip may be sent. Raises Unavailable if the broker does not answer."""
        if time.monotonic() > self._asked_at + LOOK_S:
            self._free = self._limit - backlog(self._admin, RECORDINGS, GROUP)
            self._asked_at = time.monotonic()
        return self._free > 0

    def sent(self) -> None:
        """One clip more waits there."""
        self._free -= 1

    def close(self) -> None:
        """Close the connection."""
        self._admin.close()
