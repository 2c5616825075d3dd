"""One Faust worker of a lane; `python -m stream_processors LANE N` starts it."""

from __future__ import annotations

import asyncio
import os
import sys
from typing import Any

from soundscape.events import Place
from soundscape.isolation import ChildPool
from soundscape.settings import Port, Settings
from soundscape.topics import LANES, group_of
from soundscape.wire import Headers
from stream_processors.analyse import Analyser
from stream_processors.extract import warm_up
from stream_processors.frame import StreamProcess, run
from stream_processors.safe import Processor
from stream_processors.sites import Sites
from stream_processors.triton import Triton

BULK_AT_ONCE = 4
"""Recorders' minutes in work at once, a worker: enough to keep decoding and inference both busy."""


class Worker(StreamProcess):
    """One process of a lane: its decoding children, Triton, and the deployments."""

    def __init__(self, lane: str, number: int, settings: Settings) -> None:
        name, port = f"{group_of(lane)}-{number}", settings.port(Port.LIVE if lane == "live" else Port.BULK, number)
        self._lane = lane
        self._children = ChildPool(settings.decoding_children, warm_up)
        self._processor: Processor | None = None
        self._sites: Sites | None = None
        self._places = asyncio.Semaphore(BULK_AT_ONCE if lane == "bulk" else 1_000)
        self._warm = False
        super().__init__(group_of(lane), name, port, [LANES[lane]], settings, 10.0 * number)

    async def handle(self, place: Place, key: bytes | None, headers: Headers, value: bytes | None) -> None:
        """Answer one clip by the safe pattern."""
        async with self._places:
            await self._ready().safe(place, key, headers, value)

    async def prepare(self) -> None:
        """Warm the decoders, then follow the deployments; no clip is begun before both, so that none pays for a cold start."""
        self._ready()
        assert self._sites is not None
        await asyncio.gather(
            *(self._children.run(os.getpid) for _ in range(self.settings.decoding_children)), return_exceptions=True
        )
        self._warm = True
        await self._sites.follow()

    def _ready(self) -> Processor:
        """Made on first use, inside the running loop."""
        if self._processor is None:
            triton, self._sites = Triton(self.settings), Sites(self.settings, self.name)
            analyser = Analyser(self._lane, triton, self._children)
            limit_s = self.settings.model_probe_limit_s
            self._processor = Processor(self._lane, analyser, triton, self._sites, self.publish, limit_s)
        return self._processor

    def waiting(self) -> str:
        """Why clips wait."""
        return self._processor.waiting if self._processor else ""

    def not_yet(self) -> dict[str, bool]:
        """Decoders first, then the deployments."""
        read = bool(self._sites and self._sites.ready.is_set())
        return {"starting decoders": not self._warm, "reading deployments": not read}

    def report(self) -> dict[str, Any]:
        """The generation in force by site: the deployer waits for it."""
        return {"generations": self._sites.generations if self._sites else {}}


def main() -> None:
    """Run one worker until it is told to stop."""
    lane, number = sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 0
    run(lambda settings: Worker(lane, number, settings), [LANES[lane]])
