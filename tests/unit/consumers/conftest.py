"""Events as Kafka records, made without a broker."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid5

import pytest

from soundscape.errors import Invalid, Reason
from soundscape.events import (
    NAMESPACE,
    ClipAnalysed,
    ClipRecorded,
    Detection,
    Event,
    Names,
    Place,
    Stages,
    Window,
)
from soundscape.wire import Message, dead_letter, encode

START = datetime(2026, 3, 1, 23, 30, tzinfo=UTC)


@dataclass(frozen=True)
class Record:
    """What a consumer sees of a Kafka record."""

    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    headers: list[tuple[str, bytes]]


@dataclass
class Writer:
    """A log of one partition a topic."""

    ends: dict[str, int] = field(default_factory=dict)

    def put(self, topic: str, message: Message | Event) -> Record:
        """The record that this becomes."""
        sent = encode(message) if isinstance(message, Event) else message
        offset = self.ends.get(topic, 0)
        self.ends[topic] = offset + 1
        return Record(topic, 0, offset, sent.key, sent.value, sent.headers)

    def clip(self, name: str, topic: str = "recordings", **fields: Any) -> Record:
        """A clip of that name comes in."""
        return self.put(topic, clip(name, **fields))

    def answer(self, name: str, heard: tuple[str, ...] = (), **fields: Any) -> Record:
        """A prediction for it."""
        return self.put("predictions", answer(name, heard, **fields))

    def misfit(self, name: str, changes: dict[str, Any], **fields: Any) -> Record:
        """A prediction for it whose body was changed behind its back."""
        message = encode(answer(name, **fields))
        body = json.dumps(json.loads(message.value) | changes)  # json writes Infinity, which pydantic reads
        return self.put("predictions", message._replace(value=body.encode()))

    def death(self, record: Record, reason: Reason = Reason.NOT_AUDIO) -> Record:
        """Its dead letter."""
        place = Place(topic=record.topic, partition=record.partition, offset=record.offset)
        return self.put("dead-letters", dead_letter(place, record.key, record.headers, record.value, Invalid(reason, "It is no sound.")))


def clip(name: str, **fields: Any) -> ClipRecorded:
    """A clip's event; its id follows from its name."""
    said: dict[str, Any] = {
        "clip_id": uuid5(NAMESPACE, name),
        "site": "s",
        "stream": "REC",
        "sha256": "0" * 64,
        "published_at": START,
        "audio": b"sound of " + name.encode(),
    }
    return ClipRecorded(**(said | fields))


def answer(name: str, heard: tuple[str, ...] = (), **fields: Any) -> ClipAnalysed:
    """A prediction of two windows over the labels `frog` and `owl`."""
    published = fields.pop("published", START)
    detections = tuple(
        Detection(
            label=label, names=Names(scientific=label, en=label, es=label), taxon="Aves",
            confidence=0.9, unweighted=0.9, threshold=0.5, start_s=0, end_s=5,
        )
        for label in heard
    )  # fmt: skip
    said: dict[str, Any] = {
        "clip_id": uuid5(NAMESPACE, name),
        "stream": "REC",
        "site": "s",
        "place": Place(topic="recordings", partition=0, offset=0),
        "release": "r1",
        "release_digest": "d",
        "generation": 1,
        "feature_fingerprints": ("f",),
        "labels": ("frog", "owl"),
        "windows": (Window(start_s=0, end_s=5, scores=(0.25, 0.5)), Window(start_s=5, end_s=10, scores=(0.0, 1.0))),
        "detections": detections,
        "stages": Stages(
            published=published,
            received=published,
            decoded=published,
            features=published,
            inferred=published,
            predicted=published + timedelta(seconds=1),
        ),
    }
    return ClipAnalysed(**(said | fields))


@pytest.fixture
def writer() -> Writer:
    """An empty log."""
    return Writer()


@pytest.fixture
def clip_id() -> Callable[[str], str]:
    """The id of the clip of that name."""
    return lambda name: str(uuid5(NAMESPACE, name))
