"""Guides who judge the answers of their tours one after the other, and see by server-sent events when their tour knows it."""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple
from uuid import uuid4

import aiohttp

from monitoring.load import WAIT_S

LIMIT_S = 20.0
"""Seconds for a summary that is waited for; beyond, it counts as an error."""
SUMMARY_BYTES = 2**20
"""Room for one line of the stream."""


class Judged(NamedTuple):
    """One judgement: milliseconds from the start of its POST to the summary that counts it, and the problem if there was one."""

    ms: float
    problem: str | None


class Guide:
    """One user with a tour, whose clips are answered before the first is judged."""

    def __init__(self, session: aiohttp.ClientSession, url: str, tour: str, pause_s: float, seed: int) -> None:
        """`pause_s` is the mean of what lies between an effect and the next judgement: evenly drawn, from none to twice that."""
        self._session, self._url, self._tour, self._pause_s = session, url, tour, pause_s
        self._random = random.Random(seed)
        self._heard: asyncio.Queue[tuple[float, dict[str, Any]]] = asyncio.Queue()
        self._clips: list[str] = []
        self._stand = 0
        self._listening: asyncio.Task[None] | None = None

    async def prepare(self, sounds: list[bytes]) -> None:
        """Start the tour, listen to it, and send a clip of each sound. Raises aiohttp's errors, TimeoutError, ValueError for a refusal."""
        await self._ask("POST", "/v1/tours", json={"tour_id": self._tour})
        self._listening = asyncio.create_task(self._listen())
        began = datetime.now(UTC)
        for n, sound in enumerate(sounds):
            asked = {"wait": str(WAIT_S), "tour_id": self._tour, "recorded_at": (began + timedelta(milliseconds=n)).isoformat()}
            said = await self._ask("POST", "/v1/clips", params=asked, data=sound, headers={"Content-Type": "audio/ogg"})
            self._clips.append(said["clip_id"])
        if await self._until(lambda summary: summary["clips"] >= len(sounds)) is None:
            raise ValueError(f"Tour {self._tour} does not count its {len(sounds)} clips within {LIMIT_S:g} s.")

    async def judge(self) -> list[Judged]:
        """Judge every clip, each after the effect of the one before."""
        judged = []
        for clip in self._clips:
            await asyncio.sleep(self._random.uniform(0.0, 2 * self._pause_s))
            judged.append(await self._flag(clip))
        return judged

    async def end(self) -> None:
        """Hang up, and end the tour if that can be."""
        if self._listening is not None:
            self._listening.cancel()
            await asyncio.gather(self._listening, return_exceptions=True)
            with suppress(aiohttp.ClientError, TimeoutError, ValueError):
                await self._ask("POST", f"/v1/tours/{self._tour}/end", json={})

    async def _flag(self, clip: str) -> Judged:
        began = time.perf_counter()
        try:
            await self._ask("POST", f"/v1/clips/{clip}/feedback", json={"feedback_id": str(uuid4()), "verdict": "wrong"})
        except (aiohttp.ClientError, TimeoutError, ValueError) as error:
            return Judged(0.0, str(error) or type(error).__name__)
        self._stand += 1
        at = await self._until(lambda summary: summary["feedback"] >= self._stand)
        return Judged(0.0, f"no summary that counts it within {LIMIT_S:g} s") if at is None else Judged((at - began) * 1000, None)

    async def _until(self, holds: Callable[[dict[str, Any]], bool]) -> float | None:
        """When the first summary of which that holds came in; None where none does in time."""
        with suppress(TimeoutError):
            async with asyncio.timeout(LIMIT_S):
                while True:
                    at, summary = await self._heard.get()
                    if holds(summary):
                        return at
        return None

    async def _listen(self) -> None:
        """Take in the tour's summaries; comments and ids are passed over."""
        forever = aiohttp.ClientTimeout(total=None)
        url = f"{self._url}/v1/tours/{self._tour}/events"
        async with self._session.get(url, timeout=forever, read_bufsize=SUMMARY_BYTES) as stream:
            async for line in stream.content:
                if line.startswith(b"data:"):
                    self._heard.put_nowait((time.perf_counter(), json.loads(line.removeprefix(b"data:"))))

    async def _ask(self, method: str, path: str, **how: Any) -> dict[str, Any]:
        """The JSON of an answer. Raises aiohttp's errors, TimeoutError, ValueError with the words of a refusal."""
        async with self._session.request(method, f"{self._url}{path}", **how) as answer:
            said: dict[str, Any] = await answer.json(content_type=None)
            if answer.status not in (200, 201) or said.get("state", "predicted") != "predicted":
                raise ValueError(f"{method} {path} answered {answer.status}: {said.get('detail') or said.get('state')}")
            return said


async def judging(url: str, key: str, sounds: list[bytes], users: int, flags: int, pause_s: float) -> list[Judged]:
    """So many judgements by so many users at once, all with one key, as an operator's app has it.

    Raises ValueError where the tours could not be made ready, aiohttp's errors and TimeoutError without a gateway.
    """
    run = uuid4().hex[:8]
    timeout = aiohttp.ClientTimeout(total=WAIT_S + 10)
    async with aiohttp.ClientSession(timeout=timeout, headers={"X-API-Key": key}, connector=aiohttp.TCPConnector(limit=0)) as session:
        guides = [Guide(session, url, f"bench-{run}-{n}", pause_s, n) for n in range(min(users, flags))]
        try:
            shares = [flags // len(guides) + (n < flags % len(guides)) for n in range(len(guides))]
            await asyncio.gather(*(guide.prepare((sounds * share)[:share]) for guide, share in zip(guides, shares, strict=True)))
            return [one for judged in await asyncio.gather(*(guide.judge() for guide in guides)) for one in judged]
        finally:
            await asyncio.gather(*(guide.end() for guide in guides))
