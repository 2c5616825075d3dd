"""An event as a Kafka record and back: CloudEvents 1.0, Kafka binding, binary mode."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any, NamedTuple, TypeVar

from pydantic import BaseModel, TypeAdapter, ValidationError

from soundscape.errors import Invalid, Reason
from soundscape.events import ClipDied, ClipRecorded, Event, Name, Place
from soundscape.topics import DEAD_LETTER_ROOM_BYTES, MAX_MESSAGE_BYTES

E = TypeVar("E", bound=Event)
Headers = list[tuple[str, bytes]]
SOURCE = "/el-silencio"
ORIGINAL = "original_"
"""Prefix under which a dead letter carries the headers of the record that died."""
PREFIX = "ce_"
DROPPED = PREFIX + "droppedheaders"
"""How many of the record's headers its dead letter had no room for."""
REPLAY_OF = PREFIX + "replayof"
"""Where a record that names no clip lay when it died first: sent again, it is the same one."""
REPLAYS = PREFIX + "replays"
"""How often a record was sent again by itself, because a model of its site answered again."""
KEY_CHARACTERS = 1000
"""Of a dead record's key; ours have at most 200."""
_MOST_REPLAYS = 999
_NAME: TypeAdapter[str] = TypeAdapter(Name)
_RECORD_BYTES, _HEADER_BYTES = 128, 10
"""What Kafka adds to a message and to each of its headers, at most (record format 2: a batch's head, and varints of five bytes)."""


class Message(NamedTuple):
    """What a Kafka client sends."""

    key: bytes
    value: bytes
    headers: Headers


def encode(event: Event) -> Message:
    """The record of an event. Its attributes are `ce_*` headers in UTF-8, its body the value."""
    now = datetime.now(UTC).isoformat(timespec="microseconds")
    fields: dict[str, Any] = {"specversion": "1.0", "id": event.event_id(), "source": SOURCE, "type": event.TYPE, "time": now}
    if event.BODY is None:
        value, content_type = event.model_dump_json().encode(), "application/json"
        fields |= event.extensions()
    else:
        value = getattr(event, event.BODY)
        content_type = getattr(event, "content_type", "application/octet-stream")
        dumped = event.model_dump(mode="json", exclude={event.BODY, "content_type"}, exclude_none=True)
        fields |= {name.replace("_", ""): item for name, item in dumped.items()}
    headers = [(PREFIX + name, _text(item).encode()) for name, item in fields.items()]
    return Message(event.key().encode(), value, [*headers, ("content-type", content_type.encode())])


def decode(kind: type[E], headers: Iterable[tuple[str, bytes]] | Mapping[str, bytes], value: bytes | None) -> E:
    """The event of a record. Unknown extensions pass.

    Raises Invalid: unknown-event for another type or version, malformed-event for a body or attribute that does not hold,
    wrong-identity for a record whose id is not its event's.
    """
    named = texts(headers)
    said = named.get(PREFIX + "type")
    if said != kind.TYPE:
        raise Invalid(Reason.UNKNOWN_EVENT, f"The record's ce_type is {said!r}; this topic holds {kind.TYPE}.")
    try:
        if kind.BODY is None:
            return kind.model_validate_json(value or b"")
        fields: dict[str, Any] = {name: named[header] for name in kind.model_fields if (header := PREFIX + name.replace("_", "")) in named}
        fields[kind.BODY] = value or b""
        if "content_type" in kind.model_fields and "content-type" in named:
            fields["content_type"] = named["content-type"]
        event = kind.model_validate(fields)
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        where = ".".join(map(str, first["loc"])) or "body"
        raise Invalid(Reason.MALFORMED_EVENT, f"{kind.TYPE} does not hold at {where}: {first['msg']}.") from error
    if event.event_id() != named.get(PREFIX + "id"):
        raise Invalid(Reason.WRONG_IDENTITY, f"The record's ce_id is {named.get(PREFIX + 'id')!r}, its event's {event.event_id()!r}.")
    return event


def texts(headers: Iterable[tuple[str, bytes]] | Mapping[str, bytes]) -> dict[str, str]:
    """Headers as text; bytes that are no UTF-8 are replaced."""
    pairs = headers.items() if isinstance(headers, Mapping) else headers
    return {name: (item or b"").decode(errors="replace") for name, item in pairs}


def identity(named: Mapping[str, str], place: Place) -> str:
    """The clip that a record of a lane says it is, by its header texts; where it says none, its place on the log, the first it had."""
    said = named.get(PREFIX + "type") == ClipRecorded.TYPE and name_of(named.get(PREFIX + "id"))
    return said or name_of(named.get(REPLAY_OF)) or str(place)


def name_of(text: str | None) -> str | None:
    """The text where it holds as a name, else None."""
    try:
        return _NAME.validate_python(text)
    except ValidationError:
        return None


def size(message: Message) -> int:
    """Bytes of a message on the log, at most."""
    headers = sum(_HEADER_BYTES + len(name.encode()) + len(item or b"") for name, item in message.headers)
    return _RECORD_BYTES + len(message.key) + len(message.value) + headers


def dead_letter(place: Place, key: bytes | None, headers: Headers, value: bytes | None, why: Invalid) -> Message:
    """The dead letter of a record, whatever it holds: its bytes and headers unchanged, its reason beside them.

    Headers that its topic has no room for are left out, the largest first, and counted in `ce_droppedheaders`; the body never is.
    """
    named = texts(headers)
    event = ClipDied(
        clip_id=identity(named, place),
        reason=why.reason,
        detail=why.detail[:2000],
        topic=place.topic,
        partition=place.partition,
        offset=place.offset,
        died_at=datetime.now(UTC),
        record_key=key.decode(errors="replace")[:KEY_CHARACTERS] if key else None,
        site=name_of(named.get(PREFIX + "site")),
        stream=name_of(named.get(PREFIX + "stream")),
        file_name=name_of(named.get(PREFIX + "filename")),
        probe=named.get(PREFIX + "probe") == "true",
        original=value or b"",
    )
    message = encode(event)
    kept = dict(enumerate((ORIGINAL + name, item) for name, item in headers))
    whole = message._replace(headers=[*message.headers, *kept.values()])
    excess = size(whole) - MAX_MESSAGE_BYTES - DEAD_LETTER_ROOM_BYTES
    if excess <= 0:
        return whole
    excess += _HEADER_BYTES + len(DROPPED) + len(str(len(headers)))
    bytes_of = {n: _HEADER_BYTES + len(name.encode()) + len(item or b"") for n, (name, item) in kept.items()}
    for n in sorted(bytes_of, key=bytes_of.__getitem__, reverse=True):
        if excess <= 0:
            break
        excess -= bytes_of[n]
        del kept[n]
    dropped = (DROPPED, str(len(headers) - len(kept)).encode())
    return message._replace(headers=[*message.headers, dropped, *kept.values()])


def revived(headers: Headers, value: bytes) -> Message:
    """The record that a dead letter was, ready to be published again to the topic it came from."""
    named = texts(headers)
    original = [(name.removeprefix(ORIGINAL), item) for name, item in headers if name.startswith(ORIGINAL)]
    place = ":".join(named.get(PREFIX + part, "") for part in ("topic", "partition", "offset"))
    return again(named.get(PREFIX + "id", ""), place, named.get(PREFIX + "recordkey", "").encode(), original, value)


def again(clip: str, place: str, key: bytes | None, headers: Headers, value: bytes | None) -> Message:
    """The record of a clip that lay at a place, ready to be published again: it is the same clip, also where only its place names it."""
    nameless = clip == place and REPLAY_OF not in dict(headers)
    return Message(key or b"", value or b"", [*headers, (REPLAY_OF, place.encode())] if nameless else list(headers))


def replays(headers: Headers) -> int:
    """How often the record was sent again by itself."""
    said = texts(headers).get(REPLAYS, "")
    return int(said) if said.isdecimal() and len(said) <= len(str(_MOST_REPLAYS)) else 0


def replayed(message: Message) -> Message:
    """The record sent again by itself: it says so once more."""
    count = min(replays(message.headers) + 1, _MOST_REPLAYS)
    kept = [(name, item) for name, item in message.headers if name != REPLAYS]
    return message._replace(headers=[*kept, (REPLAYS, str(count).encode())])


def schema(kind: type[BaseModel]) -> dict[str, Any]:
    """JSON Schema of an event as it is said."""
    return kind.model_json_schema(mode="serialization")


def _text(item: object) -> str:
    return item if isinstance(item, str) else json.dumps(item)
