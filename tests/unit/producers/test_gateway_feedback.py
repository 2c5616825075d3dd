"""A judgement is said once, by its own key, about an answer that was seen; changed, withdrawn, refused, and known after a restart."""

from __future__ import annotations

import asyncio
import json
from typing import Any
from uuid import uuid4

import httpx
import pytest

from producers.gateway.answers import Known
from producers.gateway.feedback import STANDING
from producers.gateway.guard import Guard
from producers.gateway.shelf import Item, Shelf
from producers.gateway.standing import Feedback
from soundscape.errors import Unavailable
from soundscape.events import ClipAnalysed, FeedbackGiven, Place
from soundscape.wire import decode


def refused(answer: httpx.Response, status: int, reason: str) -> str:
    """Check that an answer is a problem document; its detail."""
    said = answer.json()
    assert (answer.status_code, said.get("reason")) == (status, reason), said
    assert answer.headers["content-type"] == "application/problem+json"
    return str(said["detail"])


def said(world: Any) -> list[FeedbackGiven]:
    """What is on the log."""
    return [decode(FeedbackGiven, record.headers, record.value) for record in world.log["feedback"]]


async def judge(guide: httpx.AsyncClient, clip: str, verdict: str = "wrong", name: str = "f-1", **fields: Any) -> httpx.Response:
    return await guide.post(f"/v1/clips/{clip}/feedback", json={"feedback_id": name, "verdict": verdict, **fields})


async def standing(guide: httpx.AsyncClient, clip: str) -> list[tuple[str, str]]:
    answer = await guide.get(f"/v1/clips/{clip}/feedback")
    assert answer.status_code == 200, answer.text
    return [(one["feedback_id"], one["verdict"]) for one in answer.json()["feedback"]]


async def test_a_judgement_names_what_the_guide_saw_and_where_it_lies(world: Any) -> None:
    guide, clip = await world.client("ana"), world.answered(heard=("owl", "frog", "owl"))
    answer = await judge(guide, clip, "species", labels=["wren", "frog", "wren"], note="Seen on the fence.")
    assert answer.status_code == 200, answer.text
    assert answer.json() == {
        "feedback_id": "f-1", "clip_id": clip, "verdict": "species", "labels": ["wren", "frog"], "note": "Seen on the fence.",
        "place": "feedback:0:0",
    }  # fmt: skip
    (event,) = said(world)
    assert (event.stream, event.site, event.tour_id, event.by, event.release) == ("dawn", "el-silencio", "dawn", "ana", "own")
    assert (event.heard, event.labels) == (("owl", "frog"), ("wren", "frog"))
    assert (str(event.clip_place), str(event.answer_place)) == ("clips:0:0", "predictions:0:0")
    assert world.log["feedback"][0].key == b"dawn"


async def test_the_same_a_hundred_times_is_said_once_also_at_once_and_after_a_restart(world: Any) -> None:
    guide, clip = await world.client("ana"), world.answered()
    answers = await asyncio.gather(*(judge(guide, clip) for _ in range(50)))
    world.restart()
    answers += [await judge(guide, clip) for _ in range(50)]
    assert {(answer.status_code, answer.text) for answer in answers} == {(200, answers[0].text)}
    assert len(said(world)) == 1


async def test_a_judgement_is_changed_and_withdrawn_and_given_again_by_its_id(world: Any) -> None:
    guide, clip = await world.client("ana"), world.answered()
    await judge(guide, clip, "wrong")
    await judge(guide, clip, "species", labels=["wren"])
    assert await standing(guide, clip) == [("f-1", "species")]
    world.restart()
    assert (await judge(guide, clip, "withdrawn")).status_code == 200
    assert (await judge(guide, clip, "withdrawn")).status_code == 200
    assert await standing(guide, clip) == []
    await judge(guide, clip, "right", note="After all.")
    world.restart()
    assert await standing(guide, clip) == [("f-1", "right")]
    assert [event.verdict for event in said(world)] == ["wrong", "species", "withdrawn", "right"]


async def test_what_was_never_said_is_not_withdrawn(world: Any) -> None:
    guide, clip = await world.client("ana"), world.answered()
    refused(await judge(guide, clip, "withdrawn"), 404, "not-found")
    assert said(world) == []


async def test_an_id_stands_for_one_clip_and_one_key(world: Any) -> None:
    ana, berta, clip, other = await world.client("ana"), await world.client("berta"), world.answered(), world.answered()
    await judge(ana, clip)
    refused(await judge(ana, other), 409, "id-in-use")
    refused(await judge(berta, clip), 409, "id-in-use")
    world.restart()
    refused(await judge(berta, clip, "right"), 409, "id-in-use")
    both = await asyncio.gather(judge(ana, clip, name="f-2"), judge(berta, clip, name="f-2"))
    assert sorted(answer.status_code for answer in both) == [200, 409]


async def test_two_guides_who_contradict_each_other_are_both_heard(world: Any) -> None:
    ana, berta, clip = await world.client("ana"), await world.client("berta"), world.answered()
    await judge(ana, clip, "right", "a")
    await judge(berta, clip, "wrong", "b")
    assert (await standing(ana, clip), await standing(berta, clip)) == ([("a", "right")], [("b", "wrong")])
    assert await standing(await world.client("op", "operator"), clip) == [("a", "right"), ("b", "wrong")]


async def test_labels_must_be_in_the_taxonomy_and_the_unknown_ones_are_named(world: Any) -> None:
    guide = await world.client("ana")
    clip = world.answered(labels=("frog", "owl", "rare"))
    detail = refused(await judge(guide, clip, "species", labels=["wren", "dodo", "moa"]), 422, "unknown-species")
    assert "'dodo', 'moa'" in detail and "wren" not in detail
    assert (await judge(guide, clip, "species", labels=["wren", "rare"])).status_code == 200  # the champion's, and the answer's
    assert len(said(world)) == 1


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ({"verdict": "right"}, "feedback_id"),
        ({"feedback_id": "f"}, "verdict"),
        ({"feedback_id": "f", "verdict": "perhaps"}, "verdict"),
        ({"feedback_id": "a/b", "verdict": "right"}, "feedback_id"),
        ({"feedback_id": "f", "verdict": "species"}, "needs labels"),
        ({"feedback_id": "f", "verdict": "wrong", "labels": ["owl"]}, "alone"),
        ({"feedback_id": "f", "verdict": "species", "labels": ["owl"] * 51}, "labels"),
        ({"feedback_id": "f", "verdict": "right", "note": "n" * 2001}, "note"),
        ({"feedback_id": "f", "verdict": "right", "by": "berta"}, "no such parameter"),
    ],
)
async def test_a_body_that_does_not_hold_is_named(world: Any, body: dict[str, Any], says: str) -> None:
    guide, clip = await world.client("ana"), world.answered()
    assert says in refused(await guide.post(f"/v1/clips/{clip}/feedback", json=body), 400, "bad-request")
    assert said(world) == []


async def test_a_body_is_bounded_and_json(world: Any) -> None:
    guide, url = await world.client("ana"), f"/v1/clips/{world.answered()}/feedback"
    refused(await guide.post(url, content=b" " * 70_000, headers={"Content-Type": "application/json"}), 413, "too-large")
    refused(await guide.post(url, content=b"x", headers={"Content-Type": "audio/ogg"}), 415, "unsupported-media-type")
    refused(await guide.post(url, content=b"\xff", headers={"Content-Type": "application/json"}), 400, "bad-request")


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_strangers_keys_hear_nothing(world: Any, method: str) -> None:
    clip = world.answered()
    ana, labeler, elsewhere = await world.client("ana"), await world.client("lea", "labeler"), await world.client("bo", site="bench")
    await judge(ana, clip)
    url, body = f"/v1/clips/{clip}/feedback", {"feedback_id": "f-9", "verdict": "right"}
    refused(await labeler.request(method, url, json=body), 403, "forbidden")
    refused(await labeler.get(f"/v1/clips/{clip}"), 403, "forbidden")
    refused(await labeler.post("/v1/clips", content=b"the same bytes"), 403, "forbidden")
    refused(await elsewhere.request(method, url, json=body), 404, "not-found")
    refused(await ana.request(method, url, json=body, headers={"X-API-Key": "se_wrong"}), 401, "unauthorized")
    refused(await ana.request(method, f"/v1/clips/{uuid4()}/feedback", json=body), 404, "not-found")
    assert len(said(world)) == 1


async def test_an_upload_outside_a_tour_is_its_own_keys_alone(world: Any) -> None:
    ana, berta, operator = await world.client("ana"), await world.client("berta"), await world.client("op", "operator")
    upload = world.answered("ana", tour_id=None)
    minute = world.answered("H02", tour_id=None, recorder="H02")
    nobody = str(uuid4())
    theirs, unknown = refused(await judge(berta, upload), 404, "not-found"), refused(await judge(berta, nobody), 404, "not-found")
    assert theirs.replace(upload, "") == unknown.replace(nobody, "")
    assert (await judge(ana, upload, name="a")).status_code == 200
    assert (await judge(berta, minute, name="b")).status_code == 200
    assert (await judge(operator, upload, name="c")).status_code == 200


async def test_a_clip_without_an_answer_and_one_past_retention_have_their_own_words(world: Any) -> None:
    guide, clip = await world.client("ana"), world.answered()
    queued, dead = str(uuid4()), str(uuid4())
    world.services.answers.queued(queued, "el-silencio", None)
    world.older[dead] = Known("dead", "el-silencio", reason="truncated")
    assert "queued" in refused(await judge(guide, queued), 409, "not-answered")
    assert "truncated" in refused(await judge(guide, dead), 409, "not-answered")
    world.lose(Place(topic="clips", partition=0, offset=0))
    refused(await judge(guide, clip), 410, "gone")
    assert said(world) == []


async def test_a_place_where_another_clip_lies_now_is_past_retention(world: Any) -> None:
    guide, clip = await world.client("ana"), world.answered()
    world.analysed()
    world.log["clips"][0] = world.log["clips"][1]
    refused(await judge(guide, clip), 410, "gone")


async def test_a_key_has_so_many_judgements_of_a_clip_and_no_more(world: Any) -> None:
    guide, other, clip = await world.client("ana"), await world.client("berta"), world.answered()
    answers = await asyncio.gather(*(judge(guide, clip, "wrong", f"f-{n}") for n in range(STANDING + 5)))
    assert sorted(answer.status_code for answer in answers) == [200] * STANDING + [429] * 5
    assert (await judge(other, clip, "right", "b")).status_code == 200
    kept = [name for name, _ in await standing(guide, clip)]
    assert (await judge(guide, clip, "right", kept[0])).status_code == 200  # a change is no further one
    assert (await judge(guide, clip, "withdrawn", kept[0])).status_code == 200
    assert (await judge(guide, clip, "wrong", "f-more")).status_code == 200


async def test_nothing_is_taken_without_the_brokers_word(world: Any) -> None:
    guide, clip = await world.client("ana"), world.answered()
    world.failure = Unavailable("The broker has not acknowledged it within 5 s; send it again.")
    refused(await judge(guide, clip), 503, "unavailable")
    assert await standing(guide, clip) == []
    world.failure = None
    world.guard = Guard(world.settings.model_copy(update={"min_free_gb": 1e9}), ())
    refused(await judge(guide, clip), 503, "disk-full")
    world.starting = {"feedback"}
    refused(await judge(guide, clip), 503, "starting")
    assert said(world) == []


async def test_a_later_answer_is_what_the_next_judgement_is_about(world: Any) -> None:
    guide, clip = await world.client("ana"), world.answered(heard=("owl",))
    await judge(guide, clip, "wrong", "a")
    answer = decode(ClipAnalysed, world.log["predictions"][0].headers, world.log["predictions"][0].value)
    better = answer.model_copy(update={"release": "better", "detections": ()})
    record = world.put("predictions", better)
    place = Place(topic="predictions", partition=0, offset=record.offset)
    world.services.answers.arrived(clip, Known("predicted", "el-silencio", record.headers, record.value, place))
    old = {"feedback_id": "c", "verdict": "right", "release": "own"}
    refused(await guide.post(f"/v1/clips/{clip}/feedback", json=old), 409, "answered-anew")
    assert (await guide.post(f"/v1/clips/{clip}/feedback", json={**old, "feedback_id": "b", "release": "better"})).status_code == 200
    assert [(event.release, event.heard, event.answer_place.offset) for event in said(world)] == [("own", ("owl",), 0), ("better", (), 1)]


async def test_old_judgements_are_read_back_from_the_log(world: Any) -> None:
    guide, clip = await world.client("ana"), world.answered()
    world.services.feedback._shelf._kept_bytes = 1
    await judge(guide, clip, "right", "a", note="early")
    await judge(guide, clip, "wrong", "b")
    assert [one["note"] for one in (await guide.get(f"/v1/clips/{clip}/feedback")).json()["feedback"]] == ["early", None]


async def test_the_oldest_are_forgotten_by_count_and_a_record_that_does_not_decode_is_passed_over(world: Any) -> None:
    guide, clips = await world.client("ana"), [world.answered() for _ in range(3)]
    for n, clip in enumerate(clips):
        await judge(guide, clip, "wrong", f"f-{n}")
    record = world.log["feedback"][0]
    world.log["feedback"].insert(0, type(record)("feedback", 0, -1, b"", b"{}", record.headers))
    feedback = Feedback(kept=2)
    for record in world.log["feedback"]:
        feedback.apply(record)
    assert [feedback.find(f"f-{n}") is None for n in range(3)] == [True, False, False]
    assert [len(feedback.standing(clip)) for clip in clips] == [0, 1, 1]


async def test_a_shelf_keeps_the_latest_record_of_a_key_whatever_comes_again() -> None:
    shelf: Shelf[str] = Shelf("feedback", kept=2)
    assert shelf.put("a", Item(0, 5, "g", "new"), b"new")
    assert not shelf.put("a", Item(0, 4, "g", "old"), b"old")
    assert (shelf.body("a"), shelf.group("g")) == (b"new", ("a",))
    shelf.put("b", Item(0, 6, "g", ""), b"b")
    shelf.put("c", Item(0, 7, "", ""), b"c")
    assert (shelf.get("a"), shelf.group("g"), len(shelf)) == (None, ("b",), 2)
    shelf.drop("b")
    assert shelf.group("g") == () and shelf._bytes == 1


async def test_the_page_describes_the_route(world: Any) -> None:
    paths = (await (await world.client("ana")).get("/openapi.json")).json()["paths"]
    described = paths["/v1/clips/{clip_id}/feedback"]["post"]
    assert {"200", "400", "401", "403", "404", "409", "410", "413", "415", "422", "429", "503"} <= set(described["responses"])
    assert "feedback_id" in json.dumps(described["requestBody"])
