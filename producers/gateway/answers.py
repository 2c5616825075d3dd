"""Who waits for which clip, and what was answered lately: pure bookkeeping, fed by the log."""

from __future__ import annotations

import asyncio
from collections import OrderedDict, defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

from soundscape.errors import Reason
from soundscape.events import ClipAnalysed, ClipDied, Place
from soundscape.wire import PREFIX, Headers, texts

KEPT = 4096
"""Clips whose state is kept in memory."""
KEPT_BYTES = 64_000_000
"""Bytes of their answers: a minute answered over 206 labels is about 50 KB."""


@dataclass(frozen=True, eq=False)
class Known:
    """What is known of a clip. `headers`, `value` and `place` are its prediction's record, decoded only when somebody asks."""

    state: Literal["queued", "predicted", "dead"]
    site: str | None
    headers: Headers | None = None
    value: bytes = b""
    place: Place | None = None
    reason: str = str(Reason.POISON)
    detail: str = ""


class Answers:
    """Waiters by clip, and the latest answers, oldest forgotten first. Used from one event loop."""

    def __init__(self, kept: int = KEPT, kept_bytes: int = KEPT_BYTES) -> None:
        self._kept, self._kept_bytes = kept, kept_bytes
        self._known: OrderedDict[str, Known] = OrderedDict()
        self._bytes = 0
        self._waiting: dict[str, set[asyncio.Future[Known]]] = defaultdict(set)

    @contextmanager
    def expect(self, clip_id: str) -> Iterator[asyncio.Future[Known]]:
        """A future that the clip's next answer fulfils; enter before publishing, and none is missed."""
        future: asyncio.Future[Known] = asyncio.get_running_loop().create_future()
        self._waiting[clip_id].add(future)
        try:
            yield future
        finally:
            self._waiting[clip_id].discard(future)
            if not self._waiting[clip_id]:
                del self._waiting[clip_id]
            future.cancel()

    def release(self) -> None:
        """The process ends: whoever waits is told that the clip is queued, which it is."""
        for futures in self._waiting.values():
            for future in futures:
                future.cancel()

    def get(self, clip_id: str) -> Known | None:
        """What is known of a clip here."""
        return self._known.get(clip_id)

    def queued(self, clip_id: str, site: str, before: Known | None) -> None:
        """The broker has acknowledged the clip; `before` is what was known when it was published (an answer may have come since)."""
        if self._known.get(clip_id) is before:
            self._keep(clip_id, Known("queued", site))

    def learned(self, clip_id: str, answer: Known) -> None:
        """An answer was read back from where it is kept; one that came from the log meanwhile is newer."""
        known = self._known.get(clip_id)
        if known is None or known.state == "queued":
            self._keep(clip_id, answer)

    def arrived(self, clip_id: str, answer: Known) -> None:
        """An answer came from the log. A prediction stands; a death is remembered only where there is none."""
        for future in self._waiting.get(clip_id, ()):
            if not future.done():
                future.set_result(answer)
        known = self._known.get(clip_id)
        if answer.state == "predicted" or known is None or known.state != "predicted":
            self._keep(clip_id, answer)

    def _keep(self, clip_id: str, known: Known) -> None:
        old = self._known.pop(clip_id, None)
        self._known[clip_id] = known
        self._bytes += len(known.value) - (len(old.value) if old else 0)
        while len(self._known) > self._kept or (self._bytes > self._kept_bytes and len(self._known) > 1):
            _, forgotten = self._known.popitem(last=False)
            self._bytes -= len(forgotten.value)


def prediction_in(headers: Headers, value: bytes | None, place: Place) -> tuple[str, Known] | None:
    """(clip id, answer) of the record of `predictions` that lies there, by its headers alone; None for what is none."""
    said = texts(headers)
    clip_id = said.get(PREFIX + "clipid")
    if said.get(PREFIX + "type") != ClipAnalysed.TYPE or not clip_id or value is None:
        return None
    return clip_id, Known("predicted", said.get(PREFIX + "site"), headers, value, place)


def death_in(headers: Headers) -> tuple[str, Known] | None:
    """(clip id, answer) of a record of `dead-letters` by its headers alone; None for what is none."""
    said = texts(headers)
    clip_id = said.get(PREFIX + "clipid")
    if said.get(PREFIX + "type") != ClipDied.TYPE or not clip_id:
        return None
    reason, detail = said.get(PREFIX + "reason") or str(Reason.POISON), said.get(PREFIX + "detail") or ""
    return clip_id, Known("dead", said.get(PREFIX + "site"), reason=reason, detail=detail)
