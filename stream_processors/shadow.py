"""`python -m stream_processors.shadow`: answers live clips by the release that does not answer them, unseen and last of all."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import Any

from soundscape.errors import Invalid, Unavailable
from soundscape.events import ClipRecorded, Place
from soundscape.isolation import ChildPool
from soundscape.metrics import SHADOWED
from soundscape.settings import Port, Settings
from soundscape.topics import CLIPS, SHADOW_PREDICTIONS
from soundscape.wire import Headers, decode, encode
from stream_processors.analyse import Analyser
from stream_processors.extract import warm_up
from stream_processors.frame import StreamProcess, run
from stream_processors.safe import RETRY_S
from stream_processors.sites import Sites
from stream_processors.triton import ModelFailed, Triton

log = logging.getLogger(__name__)

GROUP = "shadow"
AT_ONCE = 1
"""Clips in work at once: the shadow takes what the lanes leave, and its lag may grow."""


class Shadow(StreamProcess):
    """The candidate's answers beside the champion's, and the champion's beside the candidate's on the canary's streams.

    With its own offsets: its lag may grow and is caught up. What it cannot answer is counted and passed over, since the clip's own
    lane answers it or makes it a dead letter.
    """

    def __init__(self, settings: Settings) -> None:
        self._children = ChildPool(1, warm_up)
        self._triton: Triton | None = None
        self._analyser: Analyser | None = None
        self._sites = Sites(settings, GROUP)
        self._places = asyncio.Semaphore(AT_ONCE)
        self._waits = ""
        super().__init__(GROUP, f"{GROUP}-0", settings.port(Port.SHADOW), [CLIPS], settings)

    async def prepare(self) -> None:
        """Follow the deployments; no clip is begun before they are read."""
        await self._sites.follow()

    async def handle(self, place: Place, key: bytes | None, headers: Headers, value: bytes | None) -> None:
        """Answer one clip beside, if its site has a candidate."""
        await self._sites.ready.wait()
        async with self._places:
            try:
                what = await self._answered(place, headers, value, time.time())
            except (Invalid, ModelFailed) as error:
                log.warning("the shadow passes over %s: %s", place, error)
                what = "failed"
        SHADOWED.labels(what).inc()

    async def _answered(self, place: Place, headers: Headers, value: bytes | None, received: float) -> str:
        clip = decode(ClipRecorded, headers, value)
        if self._sites.shadow(clip) is None:
            return "no candidate"
        if self._analyser is None:  # made here, inside the running loop
            self._triton = Triton(self.settings)
            self._analyser = Analyser("shadow", self._triton, self._children)
        for attempt in range(10**9):
            serving = self._sites.shadow(clip)
            if serving is None:
                self._waits = ""
                return "no candidate"  # promoted or rolled back while the clip waited
            try:
                found = await self._analyser.features(clip, serving.loaded)
                answer = await self._analyser.answer(clip, place, received, found, serving)
                await self.publish(SHADOW_PREDICTIONS.name, encode(answer))
            except Unavailable as error:
                self._waits = str(error)
                await asyncio.sleep(RETRY_S[min(attempt, len(RETRY_S) - 1)])
            else:
                self._waits = ""
                return "answered"
        raise AssertionError("unreachable")

    def waiting(self) -> str:
        """Why clips wait."""
        return self._waits

    def not_yet(self) -> dict[str, bool]:
        """The deployments come first."""
        return {"reading deployments": not self._sites.ready.is_set()}

    def report(self) -> dict[str, Any]:
        """The generation in force by site."""
        return {"generations": self._sites.generations}


if __name__ == "__main__":
    run(Shadow, [CLIPS])
