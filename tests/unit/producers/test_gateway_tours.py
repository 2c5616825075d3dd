"""A tour is one key's: started once, ended with a rating, and followed by whoever may see its site."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from typing import Any

import httpx
import numpy as np
import pytest
from fastapi.sse import format_sse_event

from producers.gateway import touring
from producers.gateway.guard import Guard
from soundscape.audio import SAMPLE_RATE, encode_ogg
from soundscape.errors import Unavailable
from soundscape.events import ClipRecorded, TourMoved, TourSpecies, TourSummed
from soundscape.keys import revoke_key
from soundscape.wire import decode

CLIP = encode_ogg((np.random.default_rng(5).standard_normal(5 * SAMPLE_RATE) * 0.1).astype(np.float32))
AT = "2026-11-24T11:30:00Z"


def refused(answer: httpx.Response, status: int, reason: str) -> str:
    """Check that an answer is a problem document; its detail."""
    said = answer.json()
    assert (answer.status_code, said.get("reason")) == (status, reason), said
    return str(said["detail"])


def moved(world: Any) -> list[TourMoved]:
    return [decode(TourMoved, record.headers, record.value) for record in world.log["tour-events"]]


def summed(tour_id: str, clips: int = 1, site: str = "el-silencio") -> TourSummed:
    """A summary with a species in it."""
    at = datetime.fromisoformat(AT) + timedelta(seconds=clips)
    row = TourSpecies(label="owl", status="confirmed", clips=clips, windows=clips, confidence=0.8)
    return TourSummed(tour_id=tour_id, site=site, species=("owl",), clips=clips, at=at, heard=(row,), diversity=1)


def events_in(text: str) -> list[tuple[str | None, dict[str, Any]]]:
    """(id, data) of each event of a stream."""
    found: list[tuple[str | None, dict[str, Any]]] = []
    for block in text.split("\n\n"):
        fields = dict(line.split(": ", 1) for line in block.splitlines() if not line.startswith(":"))
        if "data" in fields:
            found.append((fields.get("id"), json.loads(fields["data"])))
    return found


async def test_a_tour_is_started_once_and_the_same_again_by_its_key(world: Any) -> None:
    guide = await world.client("ana")
    body = {"tour_id": "dawn", "started_at": "2026-11-24T06:30:00-05:00"}
    answers = await asyncio.gather(*(guide.post("/v1/tours", json=body) for _ in range(5)))
    assert sorted(answer.status_code for answer in answers) == [200] * 4 + [201]
    world.restart()
    answers.append(await guide.post("/v1/tours", json={"tour_id": "dawn"}))
    assert {json.dumps(answer.json()) for answer in answers} == {json.dumps({"tour_id": "dawn", "site": "el-silencio", "started_at": AT})}
    (event,) = moved(world)
    assert (event.what, event.by, event.site, world.log["tour-events"][0].key) == ("started", "ana", "el-silencio", b"dawn")


async def test_a_tour_without_a_name_is_given_one(world: Any) -> None:
    guide = await world.client("ana")
    first, second = await guide.post("/v1/tours"), await guide.post("/v1/tours", json={})
    assert (first.status_code, second.status_code) == (201, 201)
    assert first.json()["tour_id"] != second.json()["tour_id"]
    assert first.headers["location"] == f"/v1/tours/{first.json()['tour_id']}"


async def test_a_tour_is_one_keys_and_one_sites(world: Any) -> None:
    ana, berta = await world.client("ana"), await world.client("berta")
    await ana.post("/v1/tours", json={"tour_id": "dawn"})
    refused(await berta.post("/v1/tours", json={"tour_id": "dawn"}), 409, "tour-exists")
    refused(await ana.post("/v1/tours", json={"tour_id": "dawn", "site": "bench"}), 409, "tour-exists")
    world.follow("tours", summed("unstarted", site="bench"))
    refused(await ana.post("/v1/tours", json={"tour_id": "unstarted"}), 409, "tour-exists")
    refused(await ana.post("/v1/tours", json={"site": "nowhere"}), 503, "no-release")
    bound = await world.client("bo", site="bench")
    refused(await bound.post("/v1/tours", json={"site": "el-silencio"}), 403, "forbidden")
    assert (await bound.post("/v1/tours", json={})).json()["site"] == "bench"


@pytest.mark.parametrize(
    ("path", "body", "says"),
    [
        ("/v1/tours", {"tour_id": "a/b"}, "tour_id"),
        ("/v1/tours", {"tour_id": "H02@2026-11-24"}, "tour_id"),
        ("/v1/tours", {"tour_id": ".."}, "tour_id"),
        ("/v1/tours", {"started_at": "2026-11-24T06:30:00"}, "offset"),
        ("/v1/tours", {"name": "dawn"}, "no such parameter"),
        ("/v1/tours/dawn/end", {"rating": 6}, "rating"),
        ("/v1/tours/dawn/end", {"rating": True}, "rating"),
        ("/v1/tours/dawn/end", {"note": "n" * 2001}, "note"),
        ("/v1/tours/dawn/end", {"ended_at": "2020-01-01T00:00:00Z"}, "ended_at"),
    ],
)
async def test_a_body_that_does_not_hold_is_named(world: Any, path: str, body: dict[str, Any], says: str) -> None:
    guide = await world.client("ana")
    await guide.post("/v1/tours", json={"tour_id": "dawn", "started_at": AT})
    assert says in refused(await guide.post(path, json=body), 400, "bad-request")
    assert len(moved(world)) == 1


async def test_an_end_is_said_once_and_changed_by_what_is_said_anew(world: Any) -> None:
    guide, url = await world.client("ana"), "/v1/tours/dawn/end"
    await guide.post("/v1/tours", json={"tour_id": "dawn", "started_at": AT})
    first = await guide.post(url, json={"rating": 4, "ended_at": "2026-11-24T13:00:00Z"})
    assert first.json() == {
        "tour_id": "dawn", "site": "el-silencio", "started_at": AT, "ended_at": "2026-11-24T13:00:00Z", "rating": 4, "note": None,
    }  # fmt: skip
    world.restart()
    assert [(await guide.post(url, json=body)).json() for body in ({"rating": 4}, {}, None)] == [first.json()] * 3
    assert len(moved(world)) == 2
    changed = await guide.post(url, json={"note": "Rain after eight."})
    assert changed.json() == first.json() | {"note": "Rain after eight."}
    assert (await guide.post(url, json={"rating": None})).json()["rating"] is None
    assert [(event.rating, event.note) for event in moved(world)[1:]] == [(4, None), (4, "Rain after eight."), (None, "Rain after eight.")]


async def test_only_who_started_a_tour_ends_it(world: Any) -> None:
    ana, berta, operator = await world.client("ana"), await world.client("berta"), await world.client("op", "operator")
    await ana.post("/v1/tours", json={"tour_id": "dawn"})
    world.follow("tours", summed("unstarted"))
    for stranger in (berta, operator):
        refused(await stranger.post("/v1/tours/dawn/end", json={}), 404, "not-found")
    refused(await ana.post("/v1/tours/unstarted/end", json={}), 404, "not-found")
    assert len(moved(world)) == 1


async def test_strangers_keys_see_no_tour(world: Any) -> None:
    ana, labeler, elsewhere = await world.client("ana"), await world.client("lea", "labeler"), await world.client("bo", site="bench")
    await ana.post("/v1/tours", json={"tour_id": "dawn"})
    world.follow("tours", summed("H02@2026-11-24"))
    refused(await labeler.post("/v1/tours", json={}), 403, "forbidden")
    refused(await labeler.post("/v1/tours/dawn/end", json={}), 403, "forbidden")
    for path in ("dawn", "dawn/events", "H02@2026-11-24", "H02@2026-11-24/events"):
        refused(await labeler.get(f"/v1/tours/{path}"), 403, "forbidden")  # a summary tells what the model heard in their samples
        refused(await elsewhere.get(f"/v1/tours/{path}"), 404, "not-found")
        refused(await ana.get(f"/v1/tours/{path}", headers={"X-API-Key": "se_wrong"}), 401, "unauthorized")
    refused(await ana.get("/v1/tours/dusk"), 404, "not-found")
    assert world.services.tours.watchers == 0


async def test_a_tour_is_empty_when_it_starts_and_then_what_was_summed_last(world: Any) -> None:
    guide = await world.client("ana")
    await guide.post("/v1/tours", json={"tour_id": "dawn", "started_at": AT})
    said = TourSummed.model_validate_json((await guide.get("/v1/tours/dawn")).content)
    assert (said.clips, said.species, said.by, said.started_at) == (0, (), "ana", datetime.fromisoformat(AT))
    world.follow("tours", summed("dawn", 1))
    world.follow("tours", summed("dawn", 2))
    assert (await guide.get("/v1/tours/dawn")).json()["clips"] == 2
    world.restart()
    assert TourSummed.model_validate_json((await guide.get("/v1/tours/dawn")).content) == summed("dawn", 2)
    world.follow("tours", summed("H02@2026-11-24"))
    assert (await guide.get("/v1/tours/H02@2026-11-24")).json()["clips"] == 1


async def test_an_old_summary_is_read_back_from_the_log(world: Any) -> None:
    guide = await world.client("ana")
    world.services.tours._summaries._kept_bytes = 1
    for name in ("a", "b"):
        world.follow("tours", summed(name, 3))
    assert [(await guide.get(f"/v1/tours/{name}")).json()["tour_id"] for name in ("a", "b")] == ["a", "b"]


async def test_a_clip_of_another_sites_tour_is_refused_and_a_late_one_is_taken(world: Any) -> None:
    guide = await world.client("ana")
    await guide.post("/v1/tours", json={"tour_id": "dawn"})
    await guide.post("/v1/tours/dawn/end", json={})
    send = {"content": CLIP, "headers": {"Content-Type": "audio/ogg"}}
    assert (await guide.post("/v1/clips?tour_id=dawn&client=mobile", **send)).status_code == 202
    record = world.log["clips"][0]
    assert (clip := decode(ClipRecorded, record.headers, record.value)).tour_id == "dawn" and clip.client == "mobile"
    refused(await guide.post("/v1/clips?tour_id=dawn&site=bench", **send), 403, "forbidden")
    assert len(world.log["clips"]) == 1


async def test_a_clip_tells_when_its_tour_was_started(world: Any) -> None:
    """By whoever started it, also after a restart; of a tour that nobody started nothing is told."""
    ana, berta = await world.client("ana"), await world.client("berta")
    await ana.post("/v1/tours", json={"tour_id": "dawn", "started_at": AT})
    for n, (guide, tour) in enumerate(((ana, "dawn"), (berta, "dawn"), (ana, "unstarted"), (ana, "dawn"))):
        if n == 3:
            world.restart()
        where = f"/v1/clips?tour_id={tour}&recorded_at=2026-11-24T11:31:0{n}Z"
        assert (await guide.post(where, content=CLIP, headers={"Content-Type": "audio/ogg"})).status_code == 202
    clips = [decode(ClipRecorded, record.headers, record.value) for record in world.log["clips"]]
    start = datetime.fromisoformat(AT)
    assert [one.tour_started_at for one in clips] == [start, start, None, start]


async def test_nothing_is_moved_without_the_brokers_word(world: Any) -> None:
    guide = await world.client("ana")
    world.failure = Unavailable("The broker has not acknowledged it within 5 s; send it again.")
    refused(await guide.post("/v1/tours", json={"tour_id": "dawn"}), 503, "unavailable")
    world.failure = None
    refused(await guide.get("/v1/tours/dawn"), 404, "not-found")
    world.guard = Guard(world.settings.model_copy(update={"min_free_gb": 1e9}), ())
    refused(await guide.post("/v1/tours", json={"tour_id": "dawn"}), 503, "disk-full")
    world.starting = {"tour-events"}
    refused(await guide.get("/v1/tours/dawn"), 503, "starting")
    assert moved(world) == []


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Seconds become milliseconds."""
    monkeypatch.setattr(touring, "PACE_S", touring.PACE_S / 1000)
    monkeypatch.setattr(touring, "QUIET_S", touring.QUIET_S / 1000)


def watching(world: Any, tour_id: str = "dawn", allowed: Any = lambda: True) -> AsyncIterator[bytes]:
    stream: AsyncIterator[bytes] = world.services.tours.watch(tour_id, world, allowed)
    return stream


async def summary_in(stream: AsyncIterator[bytes]) -> tuple[str | None, int]:
    """(id, clips) of the next event, past comments."""
    while True:
        found = events_in((await anext(stream)).decode())
        if found:
            return found[0][0], found[0][1]["clips"]


async def test_a_watcher_has_the_newest_at_once_and_every_later_one_whole(world: Any, quick: None) -> None:
    world.follow("tours", summed("other", 7))
    world.follow("tours", summed("dawn", 1))
    stream = watching(world)
    assert await summary_in(stream) == ("0-1", 1)
    following = asyncio.create_task(summary_in(stream))
    world.follow("tours", summed("dawn", 2))
    assert await following == ("0-2", 2)


async def test_what_came_between_two_events_is_passed_over(world: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    paces: list[float] = []

    async def within(event: asyncio.Event, seconds: float) -> bool:
        paces.append(seconds)
        for n in range(2, 6):
            world.follow("tours", summed("dawn", n))
        return True

    monkeypatch.setattr(touring, "_within", within)
    world.follow("tours", summed("dawn", 1))
    stream = watching(world)
    assert [await summary_in(stream) for _ in range(2)] == [("0-0", 1), ("0-4", 5)]
    assert paces == [touring.PACE_S] == [1.0]


async def test_a_quiet_tour_is_kept_alive_by_comments(world: Any, quick: None) -> None:
    world.follow("tours", summed("dawn", 1))
    stream = watching(world)
    await anext(stream)
    assert await anext(stream) == b": ping\n\n"


async def test_a_tour_just_started_is_watched_before_it_has_a_clip(world: Any, quick: None) -> None:
    await (await world.client("ana")).post("/v1/tours", json={"tour_id": "dawn"})
    stream = watching(world)
    assert await summary_in(stream) == (None, 0)
    world.follow("tours", summed("dawn", 1))
    assert await summary_in(stream) == ("0-0", 1)


async def test_a_connection_ends_with_the_process_with_its_key_and_leaves_nothing(
    world: Any, quick: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = asyncio.Semaphore(0)

    def telling(**fields: Any) -> bytes:
        told.release()
        return format_sse_event(**fields)

    monkeypatch.setattr(touring, "format_sse_event", telling)
    guide = await world.client("ana")
    world.follow("tours", summed("dawn", 1))
    open_one = asyncio.create_task(guide.get("/v1/tours/dawn/events", headers={"Last-Event-ID": "0-0"}))
    other = asyncio.create_task((await world.client("berta")).get("/v1/tours/dawn/events"))
    for _ in range(2):
        await told.acquire()
    revoke_key(world.settings, "berta")
    ended = await other
    assert (ended.status_code, events_in(ended.text)[0][0]) == (200, "0-0")
    assert world.services.tours.watchers == 1
    world.services.tours.release()
    answer = await open_one
    assert answer.headers["content-type"].startswith("text/event-stream") and answer.headers["cache-control"] == "no-cache"
    assert events_in(answer.text)[0][1]["clips"] == 1
    assert (world.services.tours.watchers, world.services.tours._news) == (0, {})


async def test_there_are_so_many_connections_and_no_more(world: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(touring, "WATCHERS", 0)
    world.follow("tours", summed("dawn", 1))
    refused(await (await world.client("ana")).get("/v1/tours/dawn/events"), 503, "busy")


async def test_the_page_describes_the_routes(world: Any) -> None:
    paths = (await (await world.client("ana")).get("/openapi.json")).json()["paths"]
    assert {"200", "201", "409", "503"} <= set(paths["/v1/tours"]["post"]["responses"])
    assert {"200", "404"} <= set(paths["/v1/tours/{tour_id}/end"]["post"]["responses"])
    assert "text/event-stream" in paths["/v1/tours/{tour_id}/events"]["get"]["responses"]["200"]["content"]
    assert "example" in paths["/v1/tours/{tour_id}"]["get"]["responses"]["200"]["content"]["application/json"]
