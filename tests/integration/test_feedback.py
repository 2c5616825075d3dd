"""A guide judges an answer on the real stack, sees the tour, and asks why: what is said is on the log, once, and strangers hear nothing."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import httpx
import pytest

from soundscape.events import ClipLabelled, FeedbackGiven
from soundscape.kafka import new_consumer, read_all
from soundscape.settings import Settings
from soundscape.testing import Stack, ogg, wait_for
from soundscape.testing_log import Log
from soundscape.testing_log import clip as recorded
from soundscape.topics import FEEDBACK, TOURS
from soundscape.wire import decode


@pytest.fixture(scope="module")
def client(stack: Stack) -> Iterator[Callable[..., httpx.Client]]:
    """Makes a client with a key of its own."""
    made: list[httpx.Client] = []

    def make(role: str = "guide", site: str = "test") -> httpx.Client:
        key = stack.run("key", "create", f"{role}-{uuid4()}", "--role", role, "--site", site).stdout.split()[-1]
        made.append(httpx.Client(base_url=stack.gateway_url, headers={"X-API-Key": key}, timeout=60.0))
        return made[-1]

    yield make
    for one in made:
        one.close()


def answered(guide: httpx.Client, tour: str, hertz: float = 2000.0) -> str:
    """The id of a clip of the tour, once it is answered."""
    asked: dict[str, str | int] = {"tour_id": tour, "wait": 30, "client": "guide"}
    answer = guide.post("/v1/clips", params=asked, content=ogg(5.0, hertz), headers={"Content-Type": "audio/ogg"})
    assert answer.status_code == 200, answer.text
    return str(answer.json()["clip_id"])


def judgements(settings: Settings, clip: str) -> list[FeedbackGiven]:
    """What the log holds of a clip."""
    consumer = new_consumer(settings)
    try:
        found = [decode(FeedbackGiven, record.headers, record.value) for record in read_all(consumer, [FEEDBACK.name])]
    finally:
        consumer.close()
    return [one for one in found if str(one.clip_id) == clip]


def judge(guide: httpx.Client, clip: str, name: str, verdict: str, **fields: Any) -> httpx.Response:
    return guide.post(f"/v1/clips/{clip}/feedback", json={"feedback_id": name, "verdict": verdict, **fields})


def test_an_answer_is_judged_changed_and_withdrawn_and_a_hundred_times_are_one(
    stack: Stack, log: Log, client: Callable[..., httpx.Client]
) -> None:
    guide, name = client(), str(uuid4())
    clip = answered(guide, f"judged {uuid4()}")
    answer = log.prediction(clip)
    with ThreadPoolExecutor(8) as pool:
        said = list(pool.map(lambda _: judge(guide, clip, name, "wrong", note="Too low."), range(100)))
    assert {(one.status_code, one.text) for one in said} == {(200, said[0].text)}
    (event,) = judgements(stack.settings, clip)
    assert (event.release, event.heard, event.clip_place, event.stream) == ("tones", ("mid",), answer.place, answer.stream)
    assert said[0].json()["place"].startswith("feedback:")
    assert judge(guide, clip, name, "species", labels=["top"]).status_code == 200
    listed = guide.get(f"/v1/clips/{clip}/feedback").json()["feedback"]
    assert [(one["verdict"], one["labels"]) for one in listed] == [("species", ["top"])]
    assert judge(guide, clip, name, "withdrawn").status_code == 200
    assert guide.get(f"/v1/clips/{clip}/feedback").json()["feedback"] == []
    assert [one.verdict for one in judgements(stack.settings, clip)] == ["wrong", "species", "withdrawn"]


def test_what_cannot_be_judged_has_its_answer(stack: Stack, client: Callable[..., httpx.Client]) -> None:
    guide, other, labeler = client(), client(), client("labeler")
    clip = answered(guide, f"refused {uuid4()}")
    sent = guide.post("/v1/clips", params={"wait": 30}, content=ogg(5.0, 2100.0), headers={"Content-Type": "audio/ogg"})
    upload = sent.json()["clip_id"]
    unknown = judge(guide, clip, "dodo", "species", labels=["mid", "dodo"])
    assert unknown.status_code == 422 and "'dodo'" in unknown.json()["detail"] and "'mid'" not in unknown.json()["detail"]
    assert judge(labeler, clip, "l", "right").status_code == 403
    assert judge(other, upload, "o", "right").status_code == 404
    assert judge(guide, str(uuid4()), "n", "right").status_code == 404
    assert httpx.post(f"{stack.gateway_url}/v1/clips/{clip}/feedback", json={}, timeout=10.0).status_code == 401
    mine = str(uuid4())
    assert judge(guide, clip, mine, "right").status_code == 200
    assert judge(other, clip, mine, "right").status_code == 409
    assert judge(other, clip, str(uuid4()), "wrong").status_code == 200
    assert [one.verdict for one in judgements(stack.settings, clip)] == ["right", "wrong"]
    assert judgements(stack.settings, upload) == []


def test_a_tour_is_started_followed_and_ended(stack: Stack, client: Callable[..., httpx.Client]) -> None:
    guide, stranger = client(), client()
    tour = guide.post("/v1/tours").json()["tour_id"]
    assert guide.get(f"/v1/tours/{tour}").json()["clips"] == 0
    assert guide.post("/v1/tours", json={"tour_id": tour}).status_code == 200
    assert stranger.post("/v1/tours", json={"tour_id": tour}).status_code == 409
    assert stranger.post(f"/v1/tours/{tour}/end", json={"rating": 1}).status_code == 404
    ended = guide.post(f"/v1/tours/{tour}/end", json={"rating": 5, "note": "Rain after eight."})
    assert (ended.status_code, ended.json()["rating"]) == (200, 5)
    assert guide.post(f"/v1/tours/{tour}/end", json={}).json() == ended.json()


def test_a_summary_is_told_over_get_and_as_it_comes(stack: Stack, log: Log, client: Callable[..., httpx.Client]) -> None:
    guide, recorder = client(), f"H-{uuid4()}"
    day = f"{recorder}@2026-11-24"
    path = f"/v1/tours/{day}"

    def heard(second: int) -> None:
        moment = datetime(2026, 11, 24, 6, 0, second, tzinfo=UTC)
        log.prediction(log.send(recorded(ogg(), stream=recorder, recorder=recorder, recorded_at=moment)))

    assert guide.get(path).status_code == 404
    heard(0)
    wait_for(lambda: guide.get(path).status_code == 200, "the summary")
    with guide.stream("GET", f"{path}/events", headers={"Last-Event-ID": "9-999"}) as answer:
        lines = answer.iter_lines()
        told = [next_event(lines)]
        heard(1)
        told.append(next_event(lines))
    consumer = new_consumer(stack.settings)
    places = [f"{one.partition}-{one.offset}" for one in read_all(consumer, [TOURS.name]) if one.key == day.encode()]
    consumer.close()
    assert told == [(place, clips) for clips, place in enumerate(places, 1)]
    assert guide.get(path).json()["clips"] == 2


def next_event(lines: Iterator[str]) -> tuple[str, int]:
    """(id, clips) of the next event of a stream."""
    fields: dict[str, str] = {}
    for line in lines:
        if not line and "data" in fields:
            return fields["id"], int(json.loads(fields["data"])["clips"])
        name, _, value = line.partition(": ")
        fields[name] = value
    raise AssertionError("the stream ended")


def test_why_a_clip_was_answered_so_is_told_by_gateway_and_command_alike(
    stack: Stack, log: Log, client: Callable[..., httpx.Client]
) -> None:
    guide = client()
    clip = answered(guide, f"explained {uuid4()}")
    assert judge(guide, clip, str(uuid4()), "right").status_code == 200
    wait_for(lambda: stack.run("explain", clip, check=False).returncode == 0, "the board to know the clip")

    def both() -> dict[str, Any] | None:
        """What both say, once the tour's summary has come to rest."""
        told: dict[str, Any] = guide.get(f"/v1/clips/{clip}/explanation").json()
        printed = json.loads(stack.run("explain", clip, "--json").stdout)
        return told if told == printed else None

    said = wait_for(both, "the same from gateway and command")
    assert (said["release"]["name"], said["gone"], said["recording"]["content_type"]) == ("tones", False, "audio/ogg")
    assert said["members"][0]["weight"] == 1.0 and said["windows"][0]["members"]["tones"]["mid"] > 0.5
    assert [one["stage"] for one in said["stages"]][-1] == "predicted" and len(said["feedback"]) == 1
    assert (said["tour_before"], said["tour_after"]["clips"]) == (None, 1)
    assert [(one["before"], one["after"]) for one in said["contributed"]] == [(None, "confirmed")], "a guide said that it is right"
    assert clip in stack.run("explain", clip).stdout
    speech = ClipLabelled(
        label_id=str(uuid4()), clip_id=log.prediction(clip).clip_id, stream=said["clip"]["stream"], site="test", start_s=0, end_s=5,
        verdict="speech", by="lea", provenance="page", labelled_at=datetime.now(UTC),
    )  # fmt: skip
    log.put("labels", speech)
    wait_for(lambda: guide.get(f"/v1/clips/{clip}/explanation").status_code == 410, "the clip to be denied")
    denied, unknown = stack.run("explain", clip, check=False), stack.run("explain", str(uuid4()), check=False)
    assert (denied.returncode, unknown.returncode) == (2, 2)
    assert "person" in denied.stderr and "Nobody knows" in unknown.stderr and "Traceback" not in denied.stderr + unknown.stderr


def test_a_stopped_gateway_lets_watchers_go_and_knows_afterwards_what_was_said(stack: Stack, client: Callable[..., httpx.Client]) -> None:
    guide, stranger, name = client(), client(), str(uuid4())
    clip = answered(guide, f"restarted {uuid4()}")
    tour = guide.post("/v1/tours").json()
    first = judge(guide, clip, name, "wrong")
    pid = stack.status()["gateway"]["pid"]
    with guide.stream("GET", f"/v1/tours/{tour['tour_id']}/events") as answer:
        lines = answer.iter_lines()
        assert next(lines).startswith("data: ")
        os.kill(pid, signal.SIGTERM)
        for _ in lines:  # to its end; httpx raises where a stream is cut off
            pass
    wait_for(lambda: stack.status()["gateway"]["pid"] not in (None, pid), "another gateway")

    def again() -> httpx.Response | None:
        try:
            answer = judge(guide, clip, name, "wrong")
        except httpx.TransportError:
            return None
        return answer if answer.status_code != 503 else None

    assert wait_for(again, "the gateway to have read feedback").text == first.text
    assert judge(stranger, clip, name, "wrong").status_code == 409
    assert len(judgements(stack.settings, clip)) == 1
    wait_for(lambda: guide.get(f"/v1/tours/{tour['tour_id']}").status_code == 200, "the gateway to have read the tours")
    assert guide.post("/v1/tours", json={"tour_id": tour["tour_id"]}).json() == tour
