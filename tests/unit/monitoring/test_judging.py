"""Guides who judge and listen: the effect is the summary that counts the judgement, whatever else comes; a gateway of our own."""

from __future__ import annotations

import asyncio
import json
from collections import Counter, defaultdict
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from monitoring import judging
from monitoring.load import Users

KEY = "se_key"


class Gateway:
    """Tours, clips and judgements as the real one answers them; summaries follow a moment later, with others before them."""

    def __init__(self) -> None:
        self.clips: dict[str, list[str]] = defaultdict(list)
        self.judged: Counter[str] = Counter()
        self.ended: list[str] = []
        self.verdicts: list[dict[str, Any]] = []
        self.forgets = False
        """Whether no judgement reaches its tour."""
        self.refuses_first = False
        """Whether the judgement of a tour's first clip is answered with 410."""
        self.six = asyncio.Event()
        """Whether six clips have come."""
        self.waits = "predicted"
        self._news: dict[str, asyncio.Queue[bytes]] = defaultdict(asyncio.Queue)

    def app(self) -> web.Application:
        """The routes."""
        app = web.Application()
        app.add_routes(
            [
                web.post("/v1/tours", self.start),
                web.post("/v1/clips", self.clip),
                web.post("/v1/clips/{clip}/feedback", self.feedback),
                web.post("/v1/tours/{tour}/end", self.end),
                web.get("/v1/tours/{tour}/events", self.events),
            ]
        )
        return app

    def say(self, tour: str) -> None:
        """A summary as the tour stands now."""
        summary = {"tour_id": tour, "clips": len(self.clips[tour]), "feedback": self.judged[tour]}
        self._news[tour].put_nowait(f"id: 3-{len(self.clips[tour])}\ndata: {json.dumps(summary)}\n\n".encode())

    async def start(self, request: web.Request) -> web.Response:
        """POST /v1/tours."""
        assert request.headers["X-API-Key"] == KEY
        tour = (await request.json())["tour_id"]
        self.say(tour)
        return web.json_response({"tour_id": tour}, status=201)

    async def clip(self, request: web.Request) -> web.Response:
        """POST /v1/clips: another clip for another moment."""
        tour = request.query["tour_id"]
        clip = f"{tour}/{request.query['recorded_at']}".replace("/", "_").replace("+", "_")
        if clip not in self.clips[tour]:
            self.clips[tour].append(clip)
        if sum(map(len, self.clips.values())) >= 6:
            self.six.set()
        self.say(tour)
        return web.json_response({"clip_id": clip, "state": self.waits}, status=200 if self.waits == "predicted" else 202)

    async def feedback(self, request: web.Request) -> web.Response:
        """POST /v1/clips/ID/feedback."""
        clip = request.match_info["clip"]
        tour = next(tour for tour, clips in self.clips.items() if clip in clips)
        if self.refuses_first and clip == self.clips[tour][0]:
            return web.json_response({"detail": "The clip has left the log."}, status=410)
        self.verdicts.append(await request.json())
        self._news[tour].put_nowait(b": keep-alive\n\n")
        self.say(tour)  # of something else, a moment before
        if not self.forgets:
            self.judged[tour] += 1
            self.say(tour)
        return web.json_response({"feedback_id": "f"})

    async def end(self, request: web.Request) -> web.Response:
        """POST /v1/tours/ID/end."""
        self.ended.append(request.match_info["tour"])
        return web.json_response({})

    async def events(self, request: web.Request) -> web.StreamResponse:
        """GET /v1/tours/ID/events."""
        stream = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await stream.prepare(request)
        while True:
            await stream.write(await self._news[request.match_info["tour"]].get())


@pytest.fixture
async def gateway() -> AsyncIterator[tuple[Gateway, str]]:
    one = Gateway()
    server = TestServer(one.app())
    await server.start_server()
    yield one, str(server.make_url("")).rstrip("/")
    await server.close()


async def test_every_user_judges_its_share_and_each_judgement_is_seen(gateway: tuple[Gateway, str]) -> None:
    there, url = gateway
    judged = await judging.judging(url, KEY, [b"one", b"two"], 3, 8, 0.0)
    assert [one.problem for one in judged] == [None] * 8
    assert all(one.ms > 0 for one in judged)
    assert sorted(there.judged.values()) == [2, 3, 3]
    assert sorted(map(len, there.clips.values())) == [2, 3, 3], "each judgement is of another clip"
    assert len({one["feedback_id"] for one in there.verdicts}) == 8
    assert {one["verdict"] for one in there.verdicts} == {"wrong"}
    assert sorted(there.ended) == sorted(there.clips)


async def test_a_judgement_that_no_summary_counts_is_an_error(gateway: tuple[Gateway, str], monkeypatch: pytest.MonkeyPatch) -> None:
    there, url = gateway
    there.forgets = True
    monkeypatch.setattr(judging, "LIMIT_S", 0.3)
    judged = await judging.judging(url, KEY, [b"one"], 1, 2, 0.0)
    assert [one.problem for one in judged] == ["no summary that counts it within 0.3 s"] * 2


async def test_a_judgement_that_is_refused_is_an_error_and_the_next_goes_on(gateway: tuple[Gateway, str]) -> None:
    there, url = gateway
    there.refuses_first = True
    judged = await judging.judging(url, KEY, [b"one"], 1, 3, 0.0)
    assert [one.problem is None for one in judged] == [False, True, True]
    assert "answered 410: The clip has left the log." in (judged[0].problem or "")


async def test_a_clip_without_an_answer_stops_the_benchmark_and_the_tours_are_ended(gateway: tuple[Gateway, str]) -> None:
    there, url = gateway
    there.waits = "queued"
    with pytest.raises(ValueError, match="answered 202: queued"):
        await judging.judging(url, KEY, [b"one"], 2, 2, 0.0)
    assert len(there.ended) == 2


async def test_an_open_loop_ends_when_it_is_told(gateway: tuple[Gateway, str]) -> None:
    there, url = gateway
    users, until = Users(url, KEY, [b"one"], 2), asyncio.Event()
    sending = asyncio.create_task(users.run(3600.0, 50.0, until))
    await there.six.wait()
    until.set()
    sent = await sending
    assert len(sent) >= 6
    assert [one.problem for one in sent] == [None] * len(sent)
    assert len(there.clips) == 2


async def test_every_run_of_the_load_has_tours_of_its_own(gateway: tuple[Gateway, str]) -> None:
    there, url = gateway
    for _ in range(2):
        await Users(url, KEY, [b"one"], 1).run(0.02, 50.0)
    assert len(there.clips) == 2
