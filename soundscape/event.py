"""What every event is made of: its identity, its parts, and the kinds of value that they share."""

from __future__ import annotations

from abc import ABC, abstractmethod
from datetime import UTC, datetime
from typing import Annotated, ClassVar
from uuid import NAMESPACE_URL, uuid5

from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict, Field

NAMESPACE = uuid5(NAMESPACE_URL, "https://elsilencio.example/clips")
"""Namespace of clip ids."""
Name = Annotated[str, Field(min_length=1, max_length=200, pattern=r"^[^\x00-\x1f\x7f/\\]+$")]
Probability = Annotated[float, Field(ge=0, le=1)]
Latitude = Annotated[float, Field(ge=-90, le=90)]
Longitude = Annotated[float, Field(ge=-180, le=180)]
Moment = Annotated[AwareDatetime, AfterValidator(lambda moment: moment.astimezone(UTC))]


def clip_id(site: str, stream: str, recorded_at: datetime | None, digest: str) -> str:
    """Identity of a clip: UUIDv5 of site, stream, `recorded_at` if the client gave it, and the SHA-256 of the bytes it sent."""
    moment = recorded_at.astimezone(UTC).isoformat(timespec="milliseconds") if recorded_at else ""
    return str(uuid5(NAMESPACE, "\n".join((site, stream, moment, digest))))


class Event(BaseModel, ABC):
    """One thing that happened. `TYPE` is CloudEvents' type, its last part the version."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    TYPE: ClassVar[str]
    BODY: ClassVar[str | None] = None

    @abstractmethod
    def event_id(self) -> str:
        """CloudEvents' id: the same for the same event said again."""

    @abstractmethod
    def key(self) -> str:
        """Kafka's key."""

    def extensions(self) -> dict[str, str]:
        """Extensions of a JSON event that let a reader choose without opening the body."""
        return {}


class Part(BaseModel):
    """A part of an event's body."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Place(Part):
    """Where a record lies on the log."""

    topic: str
    partition: int = Field(ge=0)
    offset: int = Field(ge=0)

    def __str__(self) -> str:
        return f"{self.topic}:{self.partition}:{self.offset}"


class Names(Part):
    """The names of a species."""

    scientific: str
    en: str
    es: str
