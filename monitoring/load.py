"""Users of the gateway: closed loop (the next clip when the answer is there) or open loop (a clip every 1/rate seconds)."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import NamedTuple
from uuid import uuid4

import aiohttp

WAIT_S = 30
"""Seconds that a user waits for an answer."""


class Sent(NamedTuple):
    """One clip: its id, milliseconds from the planned moment to the answer, and the problem if there was one."""

    clip_id: str | None
    ms: float
    problem: str | None


class Users:
    """So many users who send clips for some seconds."""

    def __init__(self, url: str, key: str, clips: list[bytes], users: int) -> None:
        self._url, self._key, self._clips, self._users = url, key, clips, users
        self._day = datetime.now(UTC)
        self._sent = 0
        self._tours = f"bench-{uuid4().hex[:8]}"  # of this run alone: what a tour costs grows with its clips

    async def run(self, seconds: float, rate: float | None, until: asyncio.Event | None = None) -> list[Sent]:
        """Send for that long; `rate` in clips a second and user makes it an open loop, which `until` ends before."""
        timeout = aiohttp.ClientTimeout(total=WAIT_S + 10)
        headers = {"X-API-Key": self._key, "Content-Type": "audio/ogg"}
        connector = aiohttp.TCPConnector(limit=0)
        async with aiohttp.ClientSession(timeout=timeout, headers=headers, connector=connector) as session:
            loops = [
                self._open(session, n, seconds, rate, until) if rate else self._closed(session, n, seconds) for n in range(self._users)
            ]
            return [sent for user in await asyncio.gather(*loops) for sent in user]

    async def _closed(self, session: aiohttp.ClientSession, user: int, seconds: float) -> list[Sent]:
        end, sent = time.perf_counter() + seconds, list[Sent]()
        while time.perf_counter() < end:
            sent.append(await self._send(session, user, time.perf_counter()))
        return sent

    async def _open(
        self, session: aiohttp.ClientSession, user: int, seconds: float, rate: float, until: asyncio.Event | None
    ) -> list[Sent]:
        first = time.perf_counter() + user / self._users / rate
        tasks = []
        for n in range(int(seconds * rate)):
            planned = first + n / rate
            if await _ended(until, planned - time.perf_counter()):
                break
            tasks.append(asyncio.create_task(self._send(session, user, planned)))
        return list(await asyncio.gather(*tasks))

    async def _send(self, session: aiohttp.ClientSession, user: int, planned: float) -> Sent:
        self._sent += 1
        moment = self._day + timedelta(milliseconds=self._sent)  # another clip each time, though the sound repeats
        query = {"wait": str(WAIT_S), "tour_id": f"{self._tours}-{user}", "recorded_at": moment.isoformat()}
        body = self._clips[self._sent % len(self._clips)]
        try:
            async with session.post(f"{self._url}/v1/clips", params=query, data=body) as answer:
                said = await answer.json(content_type=None)
                ok = answer.status == 200
        except (aiohttp.ClientError, TimeoutError) as error:
            return Sent(None, (time.perf_counter() - planned) * 1000, type(error).__name__)
        problem = None if ok else f"{answer.status} {said.get('detail') or said.get('state')}"
        return Sent(said.get("clip_id"), (time.perf_counter() - planned) * 1000, problem)


async def _ended(until: asyncio.Event | None, seconds: float) -> bool:
    """Whether the event is set before so many seconds have passed."""
    if until is None:
        await asyncio.sleep(max(0.0, seconds))
        return False
    with suppress(TimeoutError):
        async with asyncio.timeout(max(0.0, seconds)):
            await until.wait()
    return until.is_set()
