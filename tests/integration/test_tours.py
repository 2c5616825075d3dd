"""Tours summed by the real stream: clips over HTTP, what people say of them, and answers that change."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
from kafka import KafkaProducer

from consumers.tour_recount import differences
from soundscape.events import ClipAnalysed, ClipLabelled, FeedbackGiven, Place, TourMoved, TourSummed
from soundscape.kafka import new_producer, say
from soundscape.testing import Stack, ogg
from soundscape.testing_log import Log
from soundscape.testing_tours import Summaries
from soundscape.topics import FEEDBACK, LABELS, PREDICTIONS, TOUR_EVENTS, TOURS


@pytest.fixture
def producer(stack: Stack) -> Iterator[KafkaProducer]:
    """Says what the gateway and the labeler's page say."""
    made = new_producer(stack.settings)
    yield made
    made.close()


@pytest.fixture
def summaries(stack: Stack) -> Iterator[Summaries]:
    """What `tours` says."""
    with Summaries(stack.settings) as read:
        yield read


def sent(stack: Stack, log: Log, hertz: float, **query: Any) -> ClipAnalysed:
    """A clip that was answered over HTTP, and its prediction."""
    answer = stack.post(ogg(hertz=hertz), wait=20, **query)
    assert answer.status_code == 200, answer.text
    return log.prediction(answer.json()["clip_id"])


def feedback(clip: ClipAnalysed, verdict: Any, *labels: str, number: int = 0, by: str = "ana") -> FeedbackGiven:
    """A guide's judgement of an answer."""
    return FeedbackGiven(
        feedback_id=f"{by}-{clip.clip_id}-{number}", clip_id=clip.clip_id, stream=clip.stream, site=clip.site, tour_id=clip.tour_id,
        verdict=verdict, labels=labels, heard=tuple(one.label for one in clip.detections), recorded_at=clip.recorded_at,
        release=clip.release, clip_place=clip.place, answer_place=Place(topic="predictions", partition=0, offset=0), by=by,
        given_at=datetime.now(UTC),
    )  # fmt: skip


def statuses(summed: TourSummed) -> dict[str, str]:
    """Status by label."""
    return {one.label: one.status for one in summed.heard}


def test_a_tour_is_summed_and_corrected_by_people(stack: Stack, log: Log, producer: KafkaProducer, summaries: Summaries) -> None:
    tour, start = f"dawn-{uuid4().hex[:8]}", datetime.now(UTC)
    say(producer, TOUR_EVENTS, TourMoved(tour_id=tour, site="test", what="started", by="ana", at=start))
    assert summaries.until(tour, lambda said: said.started_at == start, "the start").clips == 0
    pitches = (500.0, 2000.0, 2000.0, 8000.0)
    clips = [
        sent(stack, log, hertz, tour_id=tour, recorded_at=(start + timedelta(seconds=5 * n)).isoformat(), latitude=6.0 + n, longitude=-74.0)
        for n, hertz in enumerate(pitches)
    ]
    summed = summaries.until(tour, lambda said: said.clips == 4, "four clips")
    assert statuses(summed) == {"mid": "confirmed", "low": "provisional", "top": "provisional"}
    assert (summed.diversity, summed.site, summed.stream, summed.by, summed.releases) == (1, "test", tour, "ana", ("tones",))
    low = next(one for one in summed.heard if one.label == "low")
    assert low.names is not None
    assert (low.names.es, low.best_clip, low.latitude) == ("tono low", clips[0].clip_id, 6.0)

    say(producer, FEEDBACK, feedback(clips[0], "wrong"))
    summed = summaries.until(tour, lambda said: said.feedback == 1, "the feedback")
    assert (statuses(summed)["low"], "low" in summed.species) == ("rejected", False)
    say(producer, FEEDBACK, feedback(clips[3], "species", "low", number=1))
    summed = summaries.until(tour, lambda said: said.feedback == 2, "more feedback")
    assert (statuses(summed)["low"], statuses(summed)["top"]) == ("confirmed", "rejected")
    expert = ClipLabelled(
        label_id=f"l-{uuid4()}", clip_id=clips[3].clip_id, stream=tour, site="test", start_s=0.0, end_s=5.0, verdict="species",
        labels=("top",), by="lena", provenance="page", labelled_at=datetime.now(UTC),
    )  # fmt: skip
    say(producer, LABELS, expert)
    summed = summaries.until(tour, lambda said: statuses(said)["top"] == "confirmed", "the labeler's word")
    assert statuses(summed)["low"] == "rejected"

    say(producer, TOUR_EVENTS, TourMoved(tour_id=tour, site="test", what="ended", by="ana", rating=5, note="good", at=datetime.now(UTC)))
    assert summaries.until(tour, lambda said: said.ended_at is not None, "the end").rating == 5


def test_a_persons_species_that_nothing_heard_is_named_by_the_release(
    stack: Stack, log: Log, producer: KafkaProducer, summaries: Summaries
) -> None:
    tour = f"named-{uuid4().hex[:8]}"
    clip = sent(stack, log, 500.0, tour_id=tour)
    say(producer, FEEDBACK, feedback(clip, "species", "top"))
    summed = summaries.until(tour, lambda said: said.feedback == 1, "the feedback")
    (top,) = [one for one in summed.heard if one.label == "top"]
    assert top.names is not None
    assert (top.names.en, top.taxon, top.status, top.windows) == ("top tone", "Aves", "confirmed", 0)


def test_an_answer_that_comes_again_replaces_the_one_before(stack: Stack, log: Log, producer: KafkaProducer, summaries: Summaries) -> None:
    tour = f"again-{uuid4().hex[:8]}"
    clip = sent(stack, log, 2000.0, tour_id=tour)
    assert summaries.until(tour, lambda said: said.clips == 1, "the clip").species == ("mid",)
    other = clip.detections[0].model_copy(update={"label": "top"})
    say(producer, PREDICTIONS, clip.model_copy(update={"release": "better", "detections": (other,)}))
    summed = summaries.until(tour, lambda said: said.releases == ("better",), "the better answer")
    assert (summed.clips, summed.species) == (1, ("top",))


def test_a_stream_outside_tours_rolls_over_daily_and_judgements_find_the_day(
    stack: Stack, log: Log, producer: KafkaProducer, summaries: Summaries
) -> None:
    late = datetime.fromisoformat("2026-03-01T18:30:00-05:00")
    days = [late, late + timedelta(hours=1)]
    clips = [sent(stack, log, 2000.0, recorded_at=moment.isoformat()) for moment in days]
    stream = clips[0].stream
    for day in ("2026-03-01", "2026-03-02"):
        summed = summaries.until(f"{stream}@{day}", lambda said: said.clips == 1, f"the {day}")
        assert (summed.stream, summed.species) == (stream, ("mid",))
    nothing = ClipLabelled(
        label_id=f"l-{uuid4()}", clip_id=clips[1].clip_id, stream=stream, site="test", start_s=0.0, end_s=5.0, verdict="nothing",
        by="lena", provenance="page", labelled_at=datetime.now(UTC),
    )  # fmt: skip
    say(producer, LABELS, nothing)
    summaries.until(f"{stream}@2026-03-02", lambda said: said.species == (), "the label")
    other_day = summaries.get(f"{stream}@2026-03-01")
    assert other_day is not None
    assert other_day.species == ("mid",)


def test_what_does_not_decode_stops_nothing_and_the_command_finds_no_difference(
    stack: Stack, log: Log, producer: KafkaProducer, summaries: Summaries
) -> None:
    tour = f"last-{uuid4().hex[:8]}"
    producer.send(FEEDBACK.name, key=tour.encode(), value=b"{").get(timeout=30)
    sent(stack, log, 2000.0, tour_id=tour)
    summaries.until(tour, lambda said: said.clips == 1, "the clip")
    compared, lines = differences(stack.settings, 60.0)
    assert lines == []
    assert compared > 0
    checked = json.loads(stack.run("tours", "check", "--json").stdout)
    assert (checked["tours"], checked["differ"]) == (compared, [])
    listed = json.loads(stack.run("tours", "list", "--json").stdout)
    assert tour in {one["tour_id"] for one in listed}
    assert "mid tone" in stack.run("tours", "show", tour).stdout


def test_a_tour_that_holds_a_clip_too_many_is_found_by_the_audit(
    stack: Stack, log: Log, producer: KafkaProducer, summaries: Summaries
) -> None:
    """Until the stream says it anew."""
    tour = f"miscounted-{uuid4().hex[:8]}"
    sent(stack, log, 2000.0, tour_id=tour)
    said = summaries.until(tour, lambda said: said.clips == 1, "the clip")
    assert stack.audit()["twice"] == 0
    say(producer, TOURS, said.model_copy(update={"clips": 2, "at": datetime.now(UTC)}))
    found = stack.run("audit", check=False)
    assert found.returncode == 1
    assert f"{tour}: its summary holds 2 clips, the log 1" in " ".join(found.stdout.split())
    sent(stack, log, 500.0, tour_id=tour)
    summaries.until(tour, lambda said: said.species == ("low", "mid"), "the tour as the stream has it")
    assert stack.audit()["twice"] == 0
    assert stack.run("audit").returncode == 0
