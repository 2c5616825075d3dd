"""Models that do not answer: each is given some time, and then its clips are sent away at once while it is watched beside the work."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterable

from soundscape.errors import Invalid, Reason, Unavailable
from stream_processors.sites import Sites
from stream_processors.triton import Triton

log = logging.getLogger(__name__)

PROBE_EVERY_S = 0.5
"""Seconds between probes of a model that failed."""


class SickModels:
    """What one process knows of models that failed their probe.

    A partition that stands still stalls all partitions of its worker, and so all sites: nobody waits for what others have waited for.
    """

    def __init__(self, triton: Triton, sites: Sites, limit_s: float) -> None:
        self._triton, self._sites, self._limit_s = triton, sites, limit_s
        self._since: dict[str, float] = {}
        self._given_up: dict[str, asyncio.Task[None]] = {}
        """Those that were sick for longer than the limit, and who watches each."""
        self._aside: dict[str, asyncio.Task[None]] = {}
        """Those that failed, or were late for, a clip that other members of its release could answer, and who watches each."""

    def refuse(self, models: Iterable[str]) -> None:
        """Raise Invalid (model-unavailable) if one of the models has been sick for longer than the limit and is so still."""
        for model in models:
            if model in self._given_up:
                what = f"Model {model} has not answered its own probe for {self._limit_s:.0f} s; the clip is sent when it does."
                raise Invalid(Reason.MODEL_UNAVAILABLE, what)

    async def well(self, model: str, shape: tuple[int, ...]) -> bool:
        """Whether the model answers its probe. Raises Invalid as `refuse`, Unavailable if the server is away."""
        self.refuse([model])
        if await self._triton.healthy(model, shape):
            self.answered([model])  # well for a moment is well: a clip that kills it again is not its sickness
            return True
        since = self._since.setdefault(model, time.monotonic())
        if time.monotonic() - since > self._limit_s:
            log.error("%s has been sick for more than %.0f s; its clips are sent away", model, self._limit_s)
            self._given_up[model] = asyncio.create_task(self._watch(model, shape, self._given_up), name=f"watch {model}")
            self.refuse([model])
        return False

    def set_aside(self, model: str, shape: tuple[int, ...]) -> None:
        """Nobody shall ask the model, where others can answer in its stead, until it answers its probe."""
        if model not in self._aside:
            log.warning("%s is left out until it answers its probe", model)
            self._aside[model] = asyncio.create_task(self._watch(model, shape, self._aside), name=f"watch {model}")

    def left_out(self, models: Iterable[str]) -> set[str]:
        """Those of the models that are not to be asked for now; none where that would leave nobody."""
        asked = set(models)
        out = asked & (self._aside.keys() | self._given_up.keys())
        return out if out < asked else set()

    def answered(self, models: Iterable[str]) -> None:
        """They have, a moment ago."""
        for model in models:
            self._since.pop(model, None)

    async def _watch(self, model: str, shape: tuple[int, ...], watched: dict[str, asyncio.Task[None]]) -> None:
        """Until the model answers, or no release in force names it any more."""
        try:
            while model in self._sites.models:
                await asyncio.sleep(PROBE_EVERY_S)
                try:
                    if await self._triton.healthy(model, shape):
                        log.info("%s answers again", model)
                        return
                except Unavailable:  # the server is away: that says nothing of the model
                    continue
        finally:
            self.answered([model])
            del watched[model]
