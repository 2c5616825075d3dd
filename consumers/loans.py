"""Releases that no state names, served for a while for who measures them (`soundscape gate`)."""

from __future__ import annotations

import time
from uuid import uuid4

from soundscape.release import LoadedRelease

LONGEST_S = 900.0
"""Seconds after which a loan ends by itself: who was killed gives nothing back."""


class Loans:
    """What is out on loan; the same release may be out more than once."""

    def __init__(self) -> None:
        self._out: dict[str, tuple[LoadedRelease, float]] = {}

    def lend(self, loaded: LoadedRelease) -> str:
        """Lend a release; returns the loan's name."""
        name = str(uuid4())
        self._out[name] = loaded, time.monotonic() + LONGEST_S
        return name

    def give_back(self, name: str) -> None:
        """End a loan, if it has not ended by itself."""
        self._out.pop(name, None)

    def out(self) -> list[LoadedRelease]:
        """Releases that are out now."""
        now = time.monotonic()
        self._out = {name: one for name, one in self._out.items() if one[1] > now}
        return [loaded for loaded, _ in self._out.values()]
