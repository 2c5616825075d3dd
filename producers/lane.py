"""The bulk lane as the broker tells it: a folder of a year's recordings must not outrun what the topic keeps."""

from __future__ import annotations

import time

from producers.disk import lack_of_room
from soundscape.kafka import backlog, new_admin
from soundscape.settings import Settings
from soundscape.topics import RECORDINGS, group_of

LOOK_S = 5.0
"""Seconds between two questions to the broker: does it answer, and how long is the backlog."""


class Lane:
    """How many more clips the lane takes before its backlog, or the disk, is full."""

    def __init__(self, settings: Settings) -> None:
        """Raises Unavailable."""
        self.why = ""
        self._settings = settings
        self._limit, self._admin = settings.max_backlog_clips, new_admin(settings)
        self._asked_at, self._free = float("-inf"), 0

    def has_room(self) -> bool:
        """Whether one more clip may be sent; `why` says why not. Raises Unavailable if the broker does not answer, OSError."""
        if time.monotonic() > self._asked_at + LOOK_S:
            self._free = self._limit - backlog(self._admin, RECORDINGS, group_of("bulk"))
            self._asked_at = time.monotonic()
        full = "The bulk lane's backlog is full." if self._free <= 0 else ""
        self.why = lack_of_room(self._settings) or full
        return not self.why

    def sent(self) -> None:
        """One clip more waits there."""
        self._free -= 1

    def close(self) -> None:
        """Close the connection."""
        self._admin.close()
