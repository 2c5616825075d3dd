"""Why did I get this: every part of the way is there, what is lost is said, and a denied clip is explained to nobody."""

from __future__ import annotations

import io
import json
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest
from rich.console import Console

from producers.evidence import collect
from producers.explanation import BEST, Evidence, explanation, shown_labels, stages, tour_id_of
from producers.explanation_text import show
from soundscape.events import ClipAnalysed, ClipLabelled, Fusion, Place, Stages, TourSpecies, TourSummed, Window
from soundscape.features import LOG_MEL
from soundscape.wire import decode

MORNING = datetime(2026, 11, 24, 11, 30, tzinfo=UTC)


def refused(answer: httpx.Response, status: int, reason: str) -> str:
    """Check that an answer is a problem document; its detail."""
    said = answer.json()
    assert (answer.status_code, said.get("reason")) == (status, reason), said
    return str(said["detail"])


def label(clip: str, name: str = "l-1", verdict: Any = "species", labels: tuple[str, ...] = ("wren",)) -> ClipLabelled:
    return ClipLabelled(
        label_id=name, clip_id=UUID(clip), stream="dawn", site="el-silencio", start_s=0, end_s=5, verdict=verdict, labels=labels, by="lea",
        provenance="page", labelled_at=datetime(2026, 11, 24, 12, tzinfo=UTC),
    )  # fmt: skip


def tour(answer: ClipAnalysed, site: str = "el-silencio") -> TourSummed:
    row = TourSpecies(label="owl", status="confirmed", clips=3, windows=4, confidence=0.8, best_clip=answer.clip_id, by_person=True)
    at = answer.stages.predicted
    return TourSummed(tour_id=tour_id_of(answer), site=site, species=("owl",), clips=3, at=at, heard=(row,), diversity=1)


def answer_of(world: Any, n: int = 0) -> ClipAnalysed:
    record = world.log["predictions"][n]
    return decode(ClipAnalysed, record.headers, record.value)


async def test_the_whole_way_of_a_clip_is_told(world: Any) -> None:
    ana, berta = await world.client("ana"), await world.client("berta")
    clip = world.answered(heard=("owl", "frog"))
    answer = answer_of(world)
    for guide, name, verdict in ((ana, "a", "right"), (berta, "b", "wrong"), (berta, "b", "withdrawn")):
        assert (await guide.post(f"/v1/clips/{clip}/feedback", json={"feedback_id": name, "verdict": verdict})).status_code == 200
    for event in (label(clip), label(clip, "l-2"), label(clip, "l-2", "withdrawn", ()), label(str(uuid4()), "l-3")):
        world.follow("labels", event)
    world.follow("tours", tour(answer))
    for run, heard in (("first", ()), ("second", ("owl",))):
        again = world.analysed(heard=heard).model_copy(update={"clip_id": answer.clip_id, "release": "candidate", "role": "shadow"})
        world.follow("shadow-predictions", again.model_copy(update={"run_id": run}))
    said = (await ana.get(f"/v1/clips/{clip}/explanation")).json()
    assert said["clip"]["tour_id"] == "dawn" and said["clip"]["place"] == "clips:0:0" and said["place"] == "predictions:0:0"
    assert (said["recording"]["original_type"], said["recording"]["original_rate"], said["gone"]) == ("audio/wav", 48000, False)
    assert (said["recording"]["bytes"], len(said["recording"]["sha256"])) == (len(world.log["clips"][0].value), 64)
    assert said["features"] == [LOG_MEL.fingerprint]
    assert said["release"] == {
        "name": "own", "digest": world.loaded.digest, "licences": ["MIT"], "generation": 1, "role": "champion",
    }  # fmt: skip
    (member,) = said["members"]
    assert (member["name"], member["weight"], member["licence"], member["left_out"]) == ("own", 2.0, "MIT", None)
    (window,) = said["windows"]
    assert list(window["scores"].items()) == [("owl", 0.8), ("wren", 0.3), ("frog", 0.1)]
    assert window["members"] == {"own": {"owl": 0.9, "wren": 0.3}}
    assert (said["prior"]["owl"], said["thresholds"]) == (0.9, {"frog": 0.5, "owl": 0.5, "wren": 0.7})
    assert [one["feedback_id"] for one in said["feedback"]] == ["a"]
    assert [one["label_id"] for one in said["labels"]] == ["l-1"]
    assert said["tour"]["diversity"] == 1
    assert said["contributed"] == [
        {
            "label": "owl", "before": None, "after": "rejected", "status": "confirmed", "by_person": True, "clips": 3, "best_of_tour": True,
        },
        {"label": "frog", "before": None, "after": "rejected", "status": None, "by_person": False, "clips": 0, "best_of_tour": False},
    ]  # fmt: skip
    assert (said["tour_before"], said["tour_after"]["species"]) == (None, ["wren"]), "the labeler heard a wren alone"
    other = (await ana.get(f"/v1/clips/{world.answered()}/explanation")).json()["contributed"]
    assert [(one["label"], one["best_of_tour"]) for one in other] == [("owl", False)]
    (shadow,) = said["shadows"]
    assert (shadow["run_id"], shadow["only_here"], shadow["only_answered"]) == ("second", [], ["frog"])
    world.restart()
    assert (await ana.get(f"/v1/clips/{clip}/explanation")).json() == said


async def test_the_tour_is_told_as_it_was_before_and_after_the_clip(world: Any) -> None:
    """Whatever came later: another clip, a judgement of that, and the end."""
    ana = await world.client("ana")
    await ana.post("/v1/tours", json={"tour_id": "dawn", "started_at": MORNING.isoformat()})
    first, second, third = (world.answered(heard=heard) for heard in (("owl",), ("owl", "frog"), ("wren", "frog")))
    await ana.post(f"/v1/clips/{third}/feedback", json={"feedback_id": "a", "verdict": "species", "labels": ["frog"]})
    await ana.post("/v1/tours/dawn/end", json={"ended_at": (MORNING + timedelta(hours=1)).isoformat()})

    async def told(clip: str) -> tuple[list[Any], list[Any], dict[str, tuple[str | None, str | None]]]:
        said = (await ana.get(f"/v1/clips/{clip}/explanation")).json()
        was, became = (
            [tour["clips"], {one["label"]: one["status"] for one in tour["heard"]}, tour["ended_at"]]
            for tour in (said["tour_before"], said["tour_after"])
        )
        return was, became, {one["label"]: (one["before"], one["after"]) for one in said["contributed"]}

    owl = {"owl": "provisional"}
    both = {"owl": "confirmed", "frog": "provisional"}
    assert await told(first) == ([0, {}, None], [1, owl, None], {"owl": (None, "provisional")})
    assert await told(second) == ([1, owl, None], [2, both, None], {"owl": ("provisional", "confirmed"), "frog": (None, "provisional")})
    assert (await told(third))[:2] == ([2, both, None], [3, {"owl": "confirmed", "frog": "confirmed", "wren": "rejected"}, None])


async def test_where_the_rows_are_dropped_only_the_newest_state_is_told(world: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    guide, clip = await world.client("ana"), world.answered()
    world.follow("tours", tour(answer_of(world)))

    async def nothing(_: str) -> None:
        return None

    monkeypatch.setattr(world, "of", nothing)
    said = (await guide.get(f"/v1/clips/{clip}/explanation")).json()
    assert (said["tour"]["clips"], said["tour_before"], said["tour_after"]) == (3, None, None)
    out = io.StringIO()
    show(said, Console(width=200, file=out))
    assert "before and after this clip: not known" in out.getvalue()


async def test_what_the_log_or_the_machine_has_lost_is_said(world: Any) -> None:
    guide, clip = await world.client("ana"), world.answered(release="older", release_digest="0" * 64)
    world.lose(Place(topic="clips", partition=0, offset=0))
    said = (await guide.get(f"/v1/clips/{clip}/explanation")).json()
    assert (said["recording"], said["gone"], said["tour"]) == (None, True, None)
    assert (said["members"][0]["weight"], said["thresholds"]) == (None, {"owl": 0.5})


async def test_a_denied_clip_is_neither_explained_nor_judged_until_the_label_is_withdrawn(world: Any) -> None:
    operator, clip = await world.client("op", "operator"), world.answered()
    world.follow("labels", label(clip, "voice", "speech", ()))
    assert "person" in refused(await operator.get(f"/v1/clips/{clip}/explanation"), 410, "speech")
    judgement = {"feedback_id": "f-1", "verdict": "wrong"}
    assert "person" in refused(await operator.post(f"/v1/clips/{clip}/feedback", json=judgement), 410, "speech")
    world.restart()
    refused(await operator.get(f"/v1/clips/{clip}/explanation"), 410, "speech")
    world.follow("labels", label(clip, "voice", "withdrawn", ()))
    assert (await operator.get(f"/v1/clips/{clip}/explanation")).status_code == 200


async def test_strangers_keys_hear_no_reasons(world: Any) -> None:
    ana, clip, upload = await world.client("ana"), world.answered(), world.answered("berta", tour_id=None)
    refused(await ana.get(f"/v1/clips/{upload}/explanation"), 404, "not-found")
    refused(await ana.get(f"/v1/clips/{uuid4()}/explanation"), 404, "not-found")
    refused(await ana.get(f"/v1/clips/{clip}/explanation", headers={"X-API-Key": "se_wrong"}), 401, "unauthorized")
    refused(await (await world.client("lea", "labeler")).get(f"/v1/clips/{clip}/explanation"), 403, "forbidden")
    refused(await (await world.client("bo", site="bench")).get(f"/v1/clips/{clip}/explanation"), 404, "not-found")
    world.starting = {"labels"}
    refused(await ana.get(f"/v1/clips/{clip}/explanation"), 503, "starting")


async def test_another_sites_tour_of_the_same_name_is_not_shown(world: Any) -> None:
    guide, clip = await world.client("ana"), world.answered()
    world.follow("tours", tour(answer_of(world), site="bench"))
    assert (await guide.get(f"/v1/clips/{clip}/explanation")).json()["tour"] is None


async def test_a_recorders_day_counts_its_clips(world: Any) -> None:
    guide, clip = await world.client("ana"), world.answered("H02", tour_id=None, recorder="H02")
    world.follow("tours", tour(answer_of(world)))
    said = (await guide.get(f"/v1/clips/{clip}/explanation")).json()
    assert said["tour"]["tour_id"] == "H02@2026-11-24"


def test_only_labels_that_had_a_chance_are_shown(world: Any) -> None:
    labels = tuple(f"l{n:03d}" for n in range(100))
    scores = tuple(n / 100 for n in range(100))
    windows = (Window(start_s=0, end_s=5, scores=scores, members={"own": {"l001": 0.2}}),)
    answer = world.analysed().model_copy(update={"labels": labels, "windows": windows})
    assert shown_labels(answer) == ("l001", *labels[-BEST:])


def test_stages_are_told_with_the_time_between_them(world: Any) -> None:
    answer = world.analysed()
    start = answer.stages.published
    times = {name: start + timedelta(milliseconds=10 * n) for n, name in enumerate(Stages.model_fields) if name != "recorded"}
    found = stages(answer.model_copy(update={"stages": Stages(**times)}))
    assert [(one["stage"], one["ms"]) for one in found[:2]] == [("published", None), ("received", 10.0)]
    assert len(found) == len(Stages.model_fields) - 1


@pytest.mark.parametrize("whole", [True, False])
async def test_an_explanation_is_printed_for_people(world: Any, whole: bool) -> None:
    clip, guide = world.answered(), await world.client("ana[bold]")
    answer = answer_of(world)
    await guide.post(f"/v1/clips/{clip}/feedback", json={"feedback_id": "a", "verdict": "species", "labels": ["wren"], "note": "[red]"})
    event = world.services.feedback
    judged = await event.read(event.standing(clip), world)
    found = Evidence(answer, Place(topic="predictions", partition=0, offset=0), None)
    if whole:
        shadow = world.analysed(heard=("frog",)).model_copy(update={"release": "candidate"})
        rows = await world.of("dawn")
        fused = answer.model_copy(update={"fusion": Fusion(mean_of="log_odds", weights={"one": 1.0}, context=0.3)})
        found = Evidence(fused, found.place, None, world.loaded, judged, [label(clip)], tour(answer), rows, [shadow])
    out = io.StringIO()
    show(json.loads(json.dumps(explanation(found))), Console(width=200, file=out))
    text = out.getvalue()
    assert clip in text and "the log has lost it" in text and "predicted" in text and "0.800" in text
    parts = ("Judged species by ana[bold]; wren; [red]", "Labelled species by lea", "candidate: frog 0.80")
    fused_by = "Fused by the mean of their log odds: one 1.00; 30% of each score from the windows beside it"
    tour_parts = ("owl is confirmed; before this clip not counted, after it rejected", "before this clip none, after it 1 in 1")
    for part in (*parts, fused_by, *tour_parts):
        assert (part in text) is whole, part


async def test_the_command_collects_what_stands_for_one_clip(world: Any) -> None:
    guide, clip, other = await world.client("ana"), world.answered(), world.answered()
    answer = answer_of(world)
    for name, verdict in (("a", "wrong"), ("a", "right"), ("b", "wrong"), ("b", "withdrawn")):
        await guide.post(f"/v1/clips/{clip}/feedback", json={"feedback_id": name, "verdict": verdict})
    await guide.post(f"/v1/clips/{other}/feedback", json={"feedback_id": "c", "verdict": "wrong", "note": clip})
    for event in (label(clip), label(other, "l-2")):
        world.follow("labels", event)
    for summed in (tour(answer), tour(answer).model_copy(update={"clips": 9}), tour(answer).model_copy(update={"tour_id": "dusk"})):
        world.follow("tours", summed)
    world.follow("shadow-predictions", answer.model_copy(update={"release": "candidate"}))
    broken = world.log["labels"][0]
    world.log["labels"].append(type(broken)("labels", 0, 9, b"", f'{{"clip_id": "{clip}"}}'.encode(), broken.headers))
    records = [record for topic in ("feedback", "labels", "tours", "shadow-predictions") for record in world.log[topic]]
    said = collect(records, clip, "dawn")
    assert [(one.feedback_id, one.verdict) for one in said.feedback] == [("a", "right")]
    assert [one.label_id for one in said.labels] == ["l-1"]
    assert said.tour is not None and said.tour.clips == 9
    assert [one.release for one in said.shadows] == ["candidate"]
