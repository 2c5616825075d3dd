"""A request's body, read within bounds, and the JSON that may carry a clip."""

from __future__ import annotations

import asyncio
import base64
import binascii
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal, TypeVar

from fastapi import Request
from pydantic import BaseModel, ValidationError
from starlette.requests import ClientDisconnect

from producers.gateway.intake import NPY
from producers.gateway.problems import Problem, sentence
from producers.gateway.schemas import ClipJson
from soundscape.audio import MAX_BYTES, MAX_MESSAGE_BYTES
from soundscape.errors import Invalid, Reason

READ_S = 120.0
"""Seconds that a body may take to arrive: 64 MB at half a megabyte a second, as from a reserve's edge."""
SMALL = 256 * 1024
"""Bytes up to which work on a body is not worth a thread."""
JSON_BYTES = MAX_BYTES * 4 // 3 + 64 * 1024
"""The largest upload in base64, with its fields."""
FORM_BYTES = 64 * 1024
"""A judgement with its 50 labels and its note, or what is said of a tour."""
_SOUND = ("", "application/ogg", "application/octet-stream")
"""Content types that, beside audio/*, are taken for sound: the first bytes decide."""

BESIDE = 2 * 1024 * 1024
"""Bytes up to which a body is small: a guide's clip never waits for somebody's hour of WAV."""
ROOM_BYTES = 256 * 1024 * 1024
"""Of all small bodies together (500 clips of 5 s as WAV), and again of all large ones; each is held some three times for a while."""

Kind = Literal["sound", "json", "log-mels"]
F = TypeVar("F", bound=BaseModel)


def kind_of(content_type: str) -> Kind:
    """What a body is, by its Content-Type. Raises Problem (415)."""
    base = content_type.partition(";")[0].strip().lower()
    if base == "application/json":
        return "json"
    if base == NPY:
        return "log-mels"
    if base.startswith("audio/") or base in _SOUND:
        return "sound"
    raise Problem(
        415,
        "unsupported-media-type",
        f"Content-Type {base} is not taken; send audio/ogg, audio/wav, audio/flac, audio/mpeg, application/json or {NPY}.",
    )


LIMITS: dict[Kind, int] = {"sound": MAX_BYTES, "json": JSON_BYTES, "log-mels": MAX_MESSAGE_BYTES}
"""Bytes of a body, by what it is."""


class Room:
    """Memory for bodies, small and large apart: what does not fit beside those that are there is refused. Used from one event loop."""

    def __init__(self, room_bytes: int = ROOM_BYTES) -> None:
        self.free = {"small": room_bytes, "large": room_bytes}

    @contextmanager
    def claim(self) -> Iterator[Claim]:
        """A claim to memory for one body, given back at the end; enter before reading, and leave when nobody holds the body."""
        claim = Claim(self)
        try:
            yield claim
        finally:
            claim.hold(0)


class Claim:
    """What one body takes of the room."""

    def __init__(self, room: Room) -> None:
        self._room, self._bytes = room, 0

    def hold(self, wanted: int) -> None:
        """Hold so many bytes from now on. Raises Problem (503, busy) where they are not free; then nothing changes."""
        free, old, new = self._room.free, _size(self._bytes), _size(wanted)
        if wanted > free[new] + (self._bytes if new == old else 0):
            raise Problem(503, "busy", f"The gateway holds as many {new} uploads as it can; send it again in a moment.")
        free[old] += self._bytes
        free[new] -= wanted
        self._bytes = wanted


def _size(body_bytes: int) -> Literal["small", "large"]:
    return "small" if body_bytes <= BESIDE else "large"


async def read_body(request: Request, kind: Kind, claim: Claim) -> bytes:
    """The whole body, within the claim. Raises Invalid (too-large) as soon as it is known to be; Problem: 408 or 400 if it does not
    arrive, 503 (busy) before it is read, or on the way where its length was not announced.
    """
    return await _read(request, LIMITS[kind], claim)


async def read_form(request: Request, form: type[F]) -> F:
    """A small JSON body as `form`; none at all where nothing is asked. Raises Problem (400, 408, 415), Invalid (too-large)."""
    base = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if base not in ("", "application/json"):
        raise Problem(415, "unsupported-media-type", f"Content-Type {base} is not taken; send application/json.")
    body = await _read(request, FORM_BYTES, None)
    try:
        return form.model_validate_json(body or b"{}")
    except ValidationError as error:
        raise Problem(400, str(Reason.BAD_REQUEST), sentence(error.errors(include_input=False, include_url=False))) from error


async def _read(request: Request, limit: int, claim: Claim | None) -> bytes:
    said = request.headers.get("content-length", "")
    announced = int(said) if said.isdigit() else 0
    if announced > limit:
        raise _too_large(limit)
    if claim is not None:
        claim.hold(announced)
    body = bytearray()
    try:
        async with asyncio.timeout(READ_S):
            async for chunk in request.stream():
                body += chunk
                if len(body) > limit:
                    raise _too_large(limit)
                if claim is not None and len(body) > announced:
                    claim.hold(len(body))
    except TimeoutError as error:
        raise Problem(408, "request-timeout", f"The body did not arrive within {READ_S:.0f} s; send it again.") from error
    except ClientDisconnect as error:
        raise Problem(400, str(Reason.BAD_REQUEST), "The connection ended before the body did; send it again.") from error
    return bytes(body)


async def parse_json(body: bytes) -> tuple[dict[str, Any], bytes]:
    """The fields that a JSON body says, as in Told, and the clip in it. Raises Problem (400)."""
    return await asyncio.to_thread(_parse, body) if len(body) > SMALL else _parse(body)


def _parse(body: bytes) -> tuple[dict[str, Any], bytes]:
    try:
        said = ClipJson.model_validate_json(body)
    except ValidationError as error:
        raise Problem(400, str(Reason.BAD_REQUEST), sentence(error.errors(include_input=False, include_url=False))) from error
    try:
        sound = base64.b64decode("".join(said.audio.split()), validate=True)
    except (binascii.Error, ValueError) as error:
        raise Problem(400, str(Reason.BAD_REQUEST), "audio does not hold: it must be the file's bytes in base64.") from error
    return {name: getattr(said, name) for name in said.model_fields_set - {"audio"}}, sound


def _too_large(limit: int) -> Invalid:
    cure = "say less" if limit == FORM_BYTES else "send at most 3 minutes of sound, or send it as OGG"
    return Invalid(Reason.TOO_LARGE, f"The body has more than {limit} bytes; {cure}.")
