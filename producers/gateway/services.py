"""What a request needs of the world: real in the process, fakes in the unit tests."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Protocol

from producers.gateway.answers import Answers, Known
from producers.gateway.body import Room
from producers.gateway.shelf import Locks, Reads
from producers.gateway.sites import Sites
from producers.gateway.standing import Feedback, Labels, Shadows
from producers.gateway.touring import Tours
from soundscape.events import Place
from soundscape.isolation import Runs
from soundscape.keys import KeyRing
from soundscape.tours import Row
from soundscape.wire import Message


class Publishes(Protocol):
    """Sends a record and waits for its acknowledgement."""

    async def publish(self, topic: str, message: Message) -> Place:
        """Where it lies. Raises Unavailable, Invalid."""


class Finds(Protocol):
    """Knows older clips."""

    async def find(self, clip_id: str) -> Known | None:
        """Raises Unavailable, Problem (410)."""


class Guards(Protocol):
    """Refuses what could not be kept."""

    def check_disk(self) -> None:
        """Raises Problem (503)."""

    def check_backlog(self, lane: str) -> None:
        """Raises Problem (503)."""


class Reports(Protocol):
    """Says how the process is."""

    def health(self) -> dict[str, Any]:
        """`{"healthy", "why", …}`."""

    def readiness(self) -> dict[str, Any]:
        """`{"ready", "why"}`."""

    def require(self, topic: str) -> None:
        """Raises Problem (503) while the topic has not been read to its end once: what is known of it may be old."""


class KnowsRows(Protocol):
    """Knows what a tour is derived from."""

    async def of(self, tour: str) -> dict[str, Row] | None:
        """Its rows by label; None where nobody has them, or nobody answers."""


@dataclass(frozen=True)
class Services:
    """All of it."""

    keys: KeyRing
    sites: Sites
    answers: Answers
    lookup: Finds
    publisher: Publishes
    guard: Guards
    children: Runs
    reports: Reports
    log: Reads
    rows: KnowsRows
    feedback: Feedback = field(default_factory=Feedback)
    labels: Labels = field(default_factory=Labels)
    shadows: Shadows = field(default_factory=Shadows)
    tours: Tours = field(default_factory=Tours)
    locks: Locks = field(default_factory=Locks)
    room: Room = field(default_factory=Room)
