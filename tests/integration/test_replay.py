"""Replay against a real broker: ranges, what is gone, datasets with a digest, and answers of another release."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from kafka.admin import NewTopic

from soundscape.audio import encode_ogg
from soundscape.errors import Invalid
from soundscape.events import ClipAnalysed, ClipLabelled, ClipRecorded, ClipSampled, FeedbackGiven, Place
from soundscape.holdout import held_out
from soundscape.kafka import abandon, new_admin, new_consumer, new_producer, publish, read_all, say
from soundscape.testing import Stack, ogg, tone
from soundscape.testing_log import Log, clip
from soundscape.topics import CLIPS, FEEDBACK, LABELS, SAMPLES, SHADOW_PREDICTIONS
from soundscape.wire import decode, encode
from trainer.data.catalog import read_catalog
from trainer.replay.dataset import make_dataset
from trainer.replay.range import Bound, resolve
from trainer.replay.run import Plan, Progress, Request
from trainer.replay.voices import UNTOLD

DAYS = [date(2026, 3, 1) + timedelta(days=n) for n in range(60)]
SECOND = timedelta(seconds=1)


def on(day: date, second: int = 0) -> datetime:
    """A moment of that day."""
    return datetime(day.year, day.month, day.day, 6, 0, second, tzinfo=UTC)


def days(stream: str) -> tuple[date, date]:
    """A day of that stream that is learnt from, and one that is held out."""
    taught, kept = (next(day for day in DAYS if held_out(stream, day) is held) for held in (False, True))
    return taught, kept


class Story:
    """Clips and what people said of them, put on the log."""

    def __init__(self, stack: Stack) -> None:
        self.settings, self.began = stack.settings, datetime.now(UTC)
        self.stream = f"replay-{uuid4().hex[:8]}"
        self._producer = new_producer(stack.settings)
        self.places: dict[str, Place] = {}

    def close(self) -> None:
        """Leave the broker."""
        abandon(self._producer)

    def clip(self, recorded_at: datetime, body: bytes | None = None, topic: str = CLIPS.name, **fields: Any) -> ClipRecorded:
        """A clip of this stream."""
        event = clip(body or ogg(), stream=self.stream, recorded_at=recorded_at, **fields)
        sent = publish(self._producer, topic, encode(event))
        self.places[str(event.clip_id)] = Place(topic=sent.topic, partition=sent.partition, offset=sent.offset)
        return event

    def label(self, of: ClipRecorded, verdict: str, *labels: str, start_s: float = 0.0, by: str = "ana", review: int = 1) -> str:
        """A labeler's word."""
        event = ClipLabelled.model_validate(
            {
                "label_id": f"{by}-{of.clip_id}-{start_s:g}", "clip_id": of.clip_id, "stream": of.stream, "site": of.site,
                "start_s": start_s, "end_s": start_s + 5, "verdict": verdict, "labels": labels, "by": by, "provenance": "page",
                "review": review, "labelled_at": datetime.now(UTC),
            }
        )  # fmt: skip
        say(self._producer, LABELS, event)
        return event.label_id

    def guide(self, of: ClipRecorded, verdict: str, *labels: str, heard: tuple[str, ...] = (), place: Place | None = None) -> None:
        """A guide's word."""
        lies = place or self.places[str(of.clip_id)]
        event = FeedbackGiven.model_validate(
            {
                "feedback_id": uuid4().hex, "clip_id": of.clip_id, "stream": of.stream, "site": of.site, "verdict": verdict,
                "labels": labels, "heard": heard, "release": "tones", "clip_place": lies, "answer_place": lies, "by": "guide",
                "given_at": datetime.now(UTC),
            }
        )  # fmt: skip
        say(self._producer, FEEDBACK, event)

    def sample(self, of: ClipRecorded, start_s: float, end_s: float, body: bytes) -> None:
        """A sample of a clip."""
        place = self.places[str(of.clip_id)]
        event = ClipSampled(
            clip_id=of.clip_id, stream=of.stream, site=of.site, reason="random", probability=0.05, topic=place.topic,
            partition=place.partition, offset=place.offset, start_s=start_s, end_s=end_s, recorded_at=of.recorded_at,
            sampled_at=datetime.now(UTC), audio=body,
        )  # fmt: skip
        say(self._producer, SAMPLES, event)

    def put(self, topic: str, event: ClipRecorded) -> None:
        """A clip onto any topic."""
        publish(self._producer, topic, encode(event))


@pytest.fixture
def story(stack: Stack) -> Iterator[Story]:
    """Put on the log of the running stack."""
    told = Story(stack)
    yield told
    told.close()


@pytest.fixture
def scratch(stack: Stack) -> Iterator[Callable[[], str]]:
    """Makes a topic of one partition that may lose records or be made anew; calling again makes it anew."""
    admin, name = new_admin(stack.settings), f"scratch-{uuid4().hex[:8]}"
    made = False

    def make() -> str:
        nonlocal made
        if made:
            admin.delete_topics([name])
        admin.create_topics([NewTopic(name=name, num_partitions=1, replication_factor=1)])
        made = True
        return name

    yield make
    admin.delete_topics([name])
    admin.close()


def lose(stack: Stack, topic: str, before: int) -> None:
    """Retention takes what lies before this offset of partition 0."""
    from kafka import TopicPartition

    admin = new_admin(stack.settings)
    admin.delete_records({TopicPartition(topic, 0): before})
    admin.close()


def test_a_range_is_exact_and_says_what_is_gone(stack: Stack, story: Story, scratch: Callable[[], str]) -> None:
    topic = scratch()
    moments = []
    for n in range(6):
        moments.append(datetime.now(UTC))
        story.clip(on(DAYS[0], n), topic=topic)
    consumer = new_consumer(stack.settings)

    def found(since: Bound, until: Bound) -> tuple[int, int, tuple[int | None, ...]]:
        span = resolve(consumer, [topic], since, until)
        return span.start[topic][0], span.end[topic][0], tuple(one.records for one in span.removed)

    def why(since: Bound, until: Bound) -> str:
        with pytest.raises(Invalid) as refused:
            resolve(consumer, [topic], since, until)
        return refused.value.detail

    assert found(None, None) == (0, 6, ())
    assert found(moments[2], moments[4])[1] - found(moments[2], moments[4])[0] == 2
    assert found({topic: {0: 1}}, {topic: {0: 3}}) == (1, 3, ())
    assert found({topic: {0: 1}}, {topic: {0: 300}}) == (1, 6, ()), "bounded by the end at the start"
    assert "inverted" in why(moments[4], moments[2]) and "inverted" in why({topic: {0: 3}}, {topic: {0: 1}})
    assert "empty" in why(datetime.now(UTC), None) and "empty" in why({topic: {0: 2}}, {topic: {0: 2}})
    assert "beyond the log" in why({topic: {0: 9}}, None) and "no partition 7" in why({topic: {7: 0}}, None)
    lose(stack, topic, 4)
    assert found(None, None) == (4, 6, ()), "without a lower bound nothing is missed"
    assert found({topic: {0: 1}}, None) == (4, 6, (3,))
    assert found(moments[1], None) == (4, 6, (None,)) and found(moments[5], None)[2] == ()
    (gone,) = resolve(consumer, [topic], {topic: {0: 1}}, None).removed
    assert "3 records" in str(gone) and topic in str(gone) and f"{moments[4]:%Y-%m-%d}" in str(gone)
    said = why({topic: {0: 1}}, {topic: {0: 3}})
    assert "empty" in said and "2 records" in said
    consumer.close()


def test_the_same_range_gives_the_same_dataset(stack: Stack, story: Story, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(stack.environment, "SOUNDSCAPE_SAMPLE_UNTOLD_SPEECH", "true")  # the release of tones hears no voices
    taught, kept = days(story.stream)
    three = encode_ogg(tone(15.0, 2000.0))
    one, two = story.clip(on(taught), three), story.clip(on(taught, 1))
    judged, flagged, quiet = story.clip(on(kept)), story.clip(on(taught, 2)), story.clip(on(kept, 2))
    voice, open_ = story.clip(on(taught, 3)), story.clip(on(taught, 4))
    absent = clip(ogg(), stream=story.stream, recorded_at=on(taught, 5))
    story.label(one, "species", "mid", "low")
    story.label(one, "nothing", start_s=5.0)
    story.label(one, "unknown", start_s=10.0)
    story.label(two, "species", "mid")
    story.label(two, "species", "mid", by="ben", review=2)
    story.label(judged, "species", "top")
    story.label(voice, "species", "mid")
    story.label(voice, "speech", by="ben", review=2)
    story.label(open_, "species", "mid", start_s=20.0)
    story.guide(flagged, "species", "low", heard=("mid",))
    story.guide(quiet, "right", heard=("mid",))
    story.guide(absent, "right", heard=("mid",), place=story.places[str(two.clip_id)])
    asked = ("--from", story.began.isoformat(), "--topics", "clips", "--site", "test")
    until = ("--to", (datetime.now(UTC) + SECOND).isoformat())
    first = json.loads(stack.run("replay", *asked, *until, "--out", str(tmp_path / "one"), "--json").stdout)
    assert first["counts"] == {"train": {"agreed": 1, "expert": 1, "guide": 1}, "background": {"expert": 1}, "evaluation": {"expert": 1}}
    assert first["left_out"]["unknown to the labeler"] >= 1
    here = {name: first["left_out"].get(name) for name in
            ("beyond the sound", "held out, and no labeler's", "another clip lies at its place")}  # fmt: skip
    assert here == {name: 1 for name in here}
    assert first["left_out"]["denied"] >= 1 and first["removed"] == []
    catalog = read_catalog(tmp_path / "one")
    assert {item.filename: item.labels for item in catalog.clips} == {
        f"low/{one.clip_id}_0.ogg": ("low", "mid"), f"mid/{two.clip_id}_0.ogg": ("mid",), f"low/{flagged.clip_id}_0.ogg": ("low",),
    }  # fmt: skip
    assert catalog.labels == ("low", "mid", "top") and catalog.unlabelled == (f"{one.clip_id}_5.ogg",)
    assert (tmp_path / "one" / "train_audio" / "mid" / f"{two.clip_id}_0.ogg").read_bytes() == two.audio
    assert [row.row_id for row in read_catalog(tmp_path / "one" / "evaluation").rows] == [f"{judged.clip_id}_0_5"]
    assert str(voice.clip_id) not in "".join(str(path) for path in (tmp_path / "one").rglob("*"))

    story.label(two, "species", "top", by="cem", review=3)  # comes after the range
    manifest = str(tmp_path / "one" / "manifest.json")
    offsets = ("--from-offsets", manifest, "--to-offsets", manifest, "--topics", "clips", "--site", "test")
    second = json.loads(stack.run("replay", *offsets, "--out", str(tmp_path / "two"), "--json").stdout)
    assert (second["digest"], second["counts"], second["offsets"]) == (first["digest"], first["counts"], first["offsets"])
    again = json.loads(stack.run("replay", *asked, *until, "--out", str(tmp_path / "one"), "--json").stdout)
    assert again == first, "it had ended already"
    story.label(one, "withdrawn")
    third = json.loads(stack.run("replay", *asked, "--out", str(tmp_path / "three"), "--json").stdout)
    assert third["digest"] != first["digest"]
    with (tmp_path / "three" / "train.csv").open(newline="") as file:
        assert {row["clip_id"] for row in csv.DictReader(file)} == {str(two.clip_id), str(flagged.clip_id)}


class Interrupted(Progress):
    """Ends the replay after so many records of the clips' topic."""

    def __init__(self, topic: str, after: int) -> None:
        self._topic, self._left = topic, after

    def done(self, topic: str, records: int) -> None:
        """One batch more."""
        self._left -= records if topic == self._topic else 0
        if self._left <= 0:
            raise KeyboardInterrupt


def test_an_interrupted_replay_goes_on_and_gone_clips_come_from_their_samples(
    stack: Stack, story: Story, scratch: Callable[[], str], tmp_path: Path
) -> None:
    topic = scratch()
    taught, _ = days(story.stream)
    clips = [story.clip(on(taught, n), encode_ogg(tone(10.0, 2000.0)), topic=topic) for n in range(40)]
    for n, event in enumerate(clips):
        story.label(event, "species", "mid", start_s=5.0)
        if n < 3:
            story.sample(event, 5.0, 10.0, ogg())
    plain = Request({topic: {0: 0}}, {topic: {0: 40}}, (topic,))
    whole = make_dataset(stack.settings, plain, tmp_path / "whole", Progress())
    assert whole["counts"]["train"] == {"expert": 40}
    with pytest.raises(KeyboardInterrupt):
        make_dataset(stack.settings, plain, tmp_path / "out", Interrupted(topic, 20))
    done = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*.ogg")}
    assert 0 < len(done) < 40 and not (tmp_path / "out" / "train.csv").exists()
    with pytest.raises(Invalid, match="another request"):
        make_dataset(stack.settings, Request(None, None, (topic,)), tmp_path / "out", Progress())
    resumed = make_dataset(stack.settings, plain, tmp_path / "out", Progress())
    assert resumed["digest"] == whole["digest"] and resumed["counts"] == whole["counts"]
    now = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*.ogg")}
    assert {name: now[name] for name in done} == done, "nothing was cut twice"

    lose(stack, topic, 5)
    partly = make_dataset(stack.settings, plain, tmp_path / "partly", Progress())
    assert len(partly["removed"]) == 1 and "5 records" in partly["removed"][0]
    assert partly["counts"]["train"] == {"expert": 38}, "three came from their samples, two are gone"
    with (tmp_path / "partly" / "train.csv").open(newline="") as file:
        sources = {row["clip_id"]: row["source"] for row in csv.DictReader(file)}
    assert {clip_id for clip_id, source in sources.items() if source == "sample"} == {str(event.clip_id) for event in clips[:3]}
    assert (tmp_path / "partly" / "train_audio" / "mid" / f"{clips[0].clip_id}_5.ogg").stat().st_size > 0


def test_a_topic_made_anew_is_noticed(stack: Stack, story: Story, scratch: Callable[[], str], tmp_path: Path) -> None:
    """Offsets of before hold other clips now: none of them takes the place of one that was meant."""
    topic = scratch()
    taught, _ = days(story.stream)
    meant = [story.clip(on(taught, n), topic=topic) for n in range(20)]
    for event in meant:
        story.guide(event, "right", heard=("mid",))
    asked = Request({topic: {0: 0}}, None, (topic,))
    with pytest.raises(KeyboardInterrupt):
        make_dataset(stack.settings, asked, tmp_path / "out", Interrupted(topic, 16))
    scratch()
    other = story.clip(on(taught, 30), topic=topic)
    with pytest.raises(Invalid, match="made anew"):
        make_dataset(stack.settings, asked, tmp_path / "out", Progress())
    untold = make_dataset(stack.settings, asked, tmp_path / "untold", Progress())
    assert untold["left_out"][UNTOLD] >= 20, "nobody has said that voices may be learnt from"
    trusting = stack.settings.model_copy(update={"sample_untold_speech": True})
    fresh = make_dataset(trusting, asked, tmp_path / "fresh", Progress())
    assert fresh["left_out"]["another clip lies at its place"] == 1 and fresh["left_out"]["not in the range"] >= 19
    assert str(other.clip_id) not in "".join(path.name for path in (tmp_path / "fresh").rglob("*.ogg"))


def test_another_release_answers_under_a_run_id_of_its_own(stack: Stack, story: Story, log: Log) -> None:
    taught, _ = days(story.stream)
    sent = [story.clip(on(taught, n), ogg(hertz=hertz), tour_id="t") for n, hertz in enumerate((500.0, 2000.0, 8000.0))]
    live = {str(event.clip_id): log.prediction(str(event.clip_id)) for event in sent}
    asked = ("replay", "--from", story.began.isoformat(), "--to", (datetime.now(UTC) + SECOND).isoformat(), "--release", "tones", "--json")
    runs = [json.loads(stack.run(*asked).stdout) for _ in range(2)]
    assert [(run["answered"], run["left_out"]) for run in runs] == [(3, {})] * 2
    assert runs[0]["run_id"] != runs[1]["run_id"]
    consumer = new_consumer(stack.settings)
    events = [decode(ClipAnalysed, record.headers, record.value) for record in read_all(consumer, [SHADOW_PREDICTIONS.name])]
    consumer.close()
    for run in runs:
        mine = {str(event.clip_id): event for event in events if event.run_id == run["run_id"]}
        assert mine.keys() == live.keys()
        for clip_id, event in mine.items():
            there = live[clip_id]
            assert event.role == "replay" and event.place == there.place and event.release_digest == there.release_digest
            assert event.labels == there.labels and [one.label for one in event.detections] == [one.label for one in there.detections]
            for here, other in zip(event.windows, there.windows, strict=True):
                assert here.scores == pytest.approx(other.scores, abs=2e-4)


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (("--from", "2026-03-02", "--to", "2026-03-01", "--release", "tones"), "inverted"),
        (("--to", "2020-01-01", "--release", "tones"), "empty"),
        (("--from", "clips:0:999999999", "--release", "tones"), "beyond the log"),
        (("--release", "nobody"), "no release"),
        (("--release", "../tones"), "no name"),
        (("--release", "tones", "--topics", "labels"), "--topics"),
        ((), "--release"),
        (("--release", "tones", "--out", "x"), "one of them"),
        (("--release", "tones", "--pseudo", "0.9"), "--pseudo"),
    ],
)
def test_a_wrong_request_is_one_sentence(stack: Stack, arguments: tuple[str, ...], why: str) -> None:
    done = stack.run("replay", *arguments, check=False)
    assert done.returncode == 2 and why in done.stderr and "Traceback" not in done.stderr


def test_a_plan_is_the_same_after_a_restart(stack: Stack, story: Story) -> None:
    """What the journal holds of it."""
    from pydantic import TypeAdapter

    story.clip(on(DAYS[0]))
    consumer = new_consumer(stack.settings)
    span = resolve(consumer, [CLIPS.name], story.began, None)
    consumer.close()
    plan = Plan(span, span, "run")
    kept = TypeAdapter(Plan)
    assert kept.validate_python(json.loads(json.dumps(kept.dump_python(plan, mode="json")))) == plan
