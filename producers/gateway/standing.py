"""What people and other releases said of each clip, as the gateway knows it: fed by Followers, bounded, read back where it is old."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple, TypeVar

from pydantic import ValidationError

from producers.gateway.shelf import KEPT, Item, Reads, Shelf
from soundscape.denied import DenyList
from soundscape.errors import Invalid
from soundscape.events import ClipAnalysed, ClipLabelled, Event, FeedbackGiven, Place
from soundscape.metrics import UNREADABLE
from soundscape.topics import FEEDBACK, LABELS, SHADOW_PREDICTIONS
from soundscape.wire import PREFIX, decode, texts

E = TypeVar("E", bound=Event)
log = logging.getLogger(__name__)

SHOWN = 100
"""Judgements, labels or shadow answers of one clip that are shown, the latest of them."""
SHADOWS_KEPT = 100_000
"""Shadow answers of which the place is known: what is older than that is no news."""


class Judgement(NamedTuple):
    """What is kept of a judgement, standing or withdrawn: whose it is, and whether it is said again."""

    by: str
    verdict: str
    digest: bytes


def digest_of(verdict: str, labels: Iterable[str], note: str | None) -> bytes:
    """Of what a judgement says, 16 bytes; the order of its labels says nothing."""
    return hashlib.blake2b(json.dumps([verdict, sorted(set(labels)), note]).encode(), digest_size=16).digest()


def read(kind: type[E], record: Any) -> E | None:
    """The event of a record; one that does not decode is counted and passed over."""
    try:
        return decode(kind, record.headers, record.value)
    except Invalid as error:
        UNREADABLE.labels("gateway", record.topic).inc()
        log.warning("%s:%d:%d passed over: %s", record.topic, record.partition, record.offset, error)
        return None


async def events(kind: type[E], shelf: Shelf[Any], keys: Sequence[str], reader: Reads, key_of: Callable[[E], str]) -> list[E]:
    """The events of the latest of these keys; those that the log has lost are left out. Raises Unavailable."""
    found = []
    for key in keys[-SHOWN:]:
        try:
            body = await shelf.read(key, reader)
            event = None if body is None else kind.model_validate_json(body)
        except ValidationError:  # the topic was made anew, and another event lies there
            continue
        if event is not None and key_of(event) == key:
            found.append(event)
    return found


class Feedback:
    """Every judgement by its id, and those of each clip."""

    def __init__(self, kept: int = KEPT) -> None:
        self._shelf: Shelf[Judgement] = Shelf(FEEDBACK.name, kept)

    def apply(self, record: Any) -> None:
        """Take in one record of `feedback`."""
        if (event := read(FeedbackGiven, record)) is not None:
            self.took(event, Place(topic=record.topic, partition=record.partition, offset=record.offset), record.value)

    def took(self, event: FeedbackGiven, place: Place, body: bytes) -> None:
        """The event lies at the place."""
        meta = Judgement(event.by, event.verdict, digest_of(event.verdict, event.labels, event.note))
        self._shelf.put(event.feedback_id, Item(place.partition, place.offset, str(event.clip_id), meta), body)

    def find(self, feedback_id: str) -> tuple[str, Judgement, Place] | None:
        """(clip id, judgement, place) of an id, None if nobody used it."""
        item = self._shelf.get(feedback_id)
        return None if item is None else (item.group, item.meta, self._shelf.place(item))

    def standing(self, clip_id: str, by: str | None = None) -> list[str]:
        """The ids of the judgements that stand for a clip, of one key or of all."""
        found = ((key, self._shelf.get(key)) for key in self._shelf.group(clip_id))
        return [key for key, item in found if item and item.meta.verdict != "withdrawn" and by in (None, item.meta.by)]

    async def read(self, keys: Sequence[str], reader: Reads) -> list[FeedbackGiven]:
        """The judgements of these ids, at most SHOWN. Raises Unavailable."""
        return await events(FeedbackGiven, self._shelf, keys, reader, FeedbackGiven.event_id)


class Labels:
    """The labels that stand, by clip, and the clips that nobody may hear again."""

    def __init__(self, kept: int = KEPT) -> None:
        self._shelf: Shelf[None] = Shelf(LABELS.name, kept)
        self.denied = DenyList()

    def apply(self, record: Any) -> None:
        """Take in one record of `labels`."""
        event = read(ClipLabelled, record)
        if event is None:
            return
        self.denied.apply(event)
        if event.verdict == "withdrawn":
            self._shelf.drop(event.label_id)
        else:
            self._shelf.put(event.label_id, Item(record.partition, record.offset, str(event.clip_id), None), record.value)

    async def of(self, clip_id: str, reader: Reads) -> list[ClipLabelled]:
        """The labels that stand for a clip, at most SHOWN. Raises Unavailable."""
        return await events(ClipLabelled, self._shelf, self._shelf.group(clip_id), reader, ClipLabelled.event_id)


class Shadows:
    """The latest answer of each release that answered a clip unseen, by header alone until somebody asks."""

    def __init__(self, kept: int = SHADOWS_KEPT) -> None:
        self._shelf: Shelf[None] = Shelf(SHADOW_PREDICTIONS.name, kept)

    def apply(self, record: Any) -> None:
        """Take in one record of `shadow-predictions`."""
        said = texts(record.headers)
        clip_id, release = said.get(PREFIX + "clipid"), said.get(PREFIX + "release")
        if said.get(PREFIX + "type") == ClipAnalysed.TYPE and clip_id and release and record.value is not None:
            self._shelf.put(f"{clip_id}/{release}", Item(record.partition, record.offset, clip_id, None), record.value)

    async def of(self, clip_id: str, reader: Reads) -> list[ClipAnalysed]:
        """The answers of other releases to a clip. Raises Unavailable."""
        return await events(ClipAnalysed, self._shelf, self._shelf.group(clip_id), reader, lambda one: f"{one.clip_id}/{one.release}")
