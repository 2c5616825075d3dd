"""A request's body, read within bounds, and the JSON that may carry a clip."""

from __future__ import annotations

import asyncio
import base64
import binascii
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal, TypeVar

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
"""Bytes up to which a body is always read: a guide's clip never waits for somebody's hour of WAV."""
ROOM_BYTES = 256 * 1024 * 1024
"""Of all larger bodies together, as announced; each is held some three times over while it is decoded."""

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
    """Memory for large bodies: what does not fit beside those that are there is refused before it is read."""

    def __init__(self, room_bytes: int = ROOM_BYTES) -> None:
        self._free = room_bytes

    @contextmanager
    def taken(self, request: Request, kind: Kind) -> Iterator[None]:
        """Hold what the body may take until the request is answered. Raises Problem (503, busy)."""
        said = request.headers.get("content-length", "")
        wanted = min(int(said), LIMITS[kind]) if said.isdigit() else LIMITS[kind]  # chunked: nobody knows
        wanted = 0 if wanted <= BESIDE else wanted
        if wanted > self._free:
            raise Problem(503, "busy", "Other large uploads are being read; send it again in a moment, or as OGG.")
        self._free -= wanted
        try:
            yield
        finally:
            self._free += wanted


async def read_body(request: Request, kind: Kind) -> bytes:
    """The whole body. Raises Invalid (too-large) as soon as it is known to be, Problem (408, 400) if it does not arrive."""
    return await _read(request, LIMITS[kind])


async def read_form(request: Request, form: type[F]) -> F:
    """A small JSON body as `form`; none at all where nothing is asked. Raises Problem (400, 408, 415), Invalid (too-large)."""
    base = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if base not in ("", "application/json"):
        raise Problem(415, "unsupported-media-type", f"Content-Type {base} is not taken; send application/json.")
    body = await _read(request, FORM_BYTES)
    try:
        return form.model_validate_json(body or b"{}")
    except ValidationError as error:
        raise Problem(400, str(Reason.BAD_REQUEST), sentence(error.errors(include_input=False, include_url=False))) from error


async def _read(request: Request, limit: int) -> bytes:
    said = request.headers.get("content-length", "")
    if said.isdigit() and int(said) > limit:
        raise _too_large(limit)
    body = bytearray()
    try:
        async with asyncio.timeout(READ_S):
            async for chunk in request.stream():
                body += chunk
                if len(body) > limit:
                    raise _too_large(limit)
    except TimeoutError as error:
        raise Problem(408, "request-timeout", f"The body did not arrive within {READ_S:.0f} s; send it again.") from error
    except ClientDisconnect as error:
        raise Problem(400, str(Reason.BAD_REQUEST), "The connection ended before the body did; send it again.") from error
    return bytes(body)


async def parse_json(body: bytes) -> tuple[ClipJson, bytes]:
    """The fields of a JSON body and the clip in it. Raises Problem (400)."""
    return await asyncio.to_thread(_parse, body) if len(body) > SMALL else _parse(body)


def _parse(body: bytes) -> tuple[ClipJson, bytes]:
    try:
        said = ClipJson.model_validate_json(body)
    except ValidationError as error:
        raise Problem(400, str(Reason.BAD_REQUEST), sentence(error.errors(include_input=False, include_url=False))) from error
    try:
        return said, base64.b64decode("".join(said.audio.split()), validate=True)
    except (binascii.Error, ValueError) as error:
        raise Problem(400, str(Reason.BAD_REQUEST), "audio does not hold: it must be the file's bytes in base64.") from error


def _too_large(limit: int) -> Invalid:
    cure = "say less" if limit == FORM_BYTES else "send at most 3 minutes of sound, or send it as OGG"
    return Invalid(Reason.TOO_LARGE, f"The body has more than {limit} bytes; {cure}.")
