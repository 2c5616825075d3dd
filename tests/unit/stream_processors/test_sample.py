"""From answers and flags to samples, by a log in memory: what is published, what is withheld, and what a restart remembers."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast
from uuid import UUID, uuid5

import numpy as np
import pytest
from aiokafka import TopicPartition
from aiokafka.errors import KafkaConnectionError
from scipy.stats import binom

from soundscape.audio import SAMPLE_RATE, decode, encode_ogg
from soundscape.clip_reader import ClipReader
from soundscape.denied import DenyList
from soundscape.errors import Invalid, Reason, Unavailable
from soundscape.event import NAMESPACE
from soundscape.events import ClipAnalysed, ClipLabelled, ClipRecorded, ClipSampled, Event, FeedbackGiven, Place, Stages, Window
from soundscape.isolation import ChildPool
from soundscape.metrics import SAMPLE_LAG, SAMPLE_LAG_SHARE, SAMPLED, UNREADABLE, WITHHELD
from soundscape.sampling import Wanted, random_window, unit
from soundscape.settings import Settings
from soundscape.testing import ogg, tone, tone_release, wait_for
from soundscape.testing_log import clip
from soundscape.topics import LABELS, SAMPLES
from soundscape.wire import Message, encode
from soundscape.wire import decode as read_event
from stream_processors import sample_follow
from stream_processors.sample_choose import Chooser
from stream_processors.sample_cut import cut
from stream_processors.sample_follow import follow
from stream_processors.sample_known import ENOUGH, FEW, RARE_DAYS, Heard, Sampled, Samples
from stream_processors.sample_process import NAME, Sampler

NOW = datetime.now(UTC)
TODAY = NOW.date()
MINUTE = encode_ogg(np.concatenate([tone(5.0, 400.0 * (n + 1)) for n in range(12)]))
"""Twelve windows, each with a tone of its own."""


class Desk:
    """A chooser with its log in memory, and what it said."""

    def __init__(self, folder: Path, samples: Samples | None = None, **settings: Any) -> None:
        self.settings = Settings(data_dir=folder, **({"sample_rate": 0.0} | settings))
        self.samples, self.denied = samples or Samples(self.settings.sample_quota), DenyList()
        self.clips: dict[str, ClipRecorded] = {}
        self.answers: dict[str, ClipAnalysed] = {}
        self.said: list[Message] = []
        self.reads = 0
        self.away, self.asked = False, asyncio.Event()
        self.while_cutting: Callable[[], None] = lambda: None
        self.chooser = Chooser(self.settings, self.samples, self.denied, cast(ChildPool, self), self.publish)
        self.chooser._reader = cast(ClipReader, SimpleNamespace(read=self.read, answer=self.answer))

    def read(self, place: Place, clip_id: UUID) -> ClipRecorded | None:
        self.reads += 1
        return self.clips.get(str(clip_id))

    def answer(self, place: Place, clip_id: UUID) -> ClipAnalysed | None:
        return self.answers.get(str(clip_id))

    async def run(self, work: Callable[..., Any], *args: Any) -> Any:
        """As a decoding child."""
        self.while_cutting()
        return work(*args)

    async def publish(self, topic: str, message: Message) -> None:
        assert topic == SAMPLES.name
        if self.away:
            self.asked.set()
            raise Unavailable("no broker")
        self.said.append(message)

    def answered(self, body: bytes, *speech: float | None, **fields: Any) -> ClipAnalysed:
        """A clip with this sound, and its answer with a window for each speech score (None: none is told)."""
        given: dict[str, Any] = {"stream": "tour-1", "recorded_at": NOW} | {
            name: fields.pop(name) for name in ("stream", "tour_id", "recorded_at") if name in fields
        }
        of = clip(body, **given)
        labels = fields.pop("labels", ("ant",))
        scores = fields.pop("scores", [(0.9,)] * len(speech))
        windows = [
            Window(start_s=5.0 * n, end_s=5.0 * n + 5, scores=scores[n], events={} if said is None else {"speech": said})
            for n, said in enumerate(speech)
        ]
        base: dict[str, Any] = {
            "clip_id": of.clip_id, "stream": of.stream, "site": of.site, "tour_id": of.tour_id, "recorded_at": of.recorded_at,
            "place": Place(topic="clips", partition=3, offset=7), "release": "r", "release_digest": "0" * 64, "generation": 1,
            "feature_fingerprints": (), "labels": labels, "windows": windows, "detections": (),
            "stages": Stages(published=NOW, received=NOW, decoded=NOW, features=NOW, inferred=NOW, predicted=NOW),
        }  # fmt: skip
        answer = ClipAnalysed.model_validate(base | fields)
        self.clips[str(of.clip_id)], self.answers[str(of.clip_id)] = of, answer
        return answer

    async def take(self, event: ClipAnalysed | FeedbackGiven) -> list[ClipSampled]:
        """What is said of a record."""
        before = len(self.said)
        found = await self.chooser.reasons(Place(topic="predictions", partition=1, offset=2), event)
        if found:
            await self.chooser.sample(found)
        return [read_event(ClipSampled, message.headers, message.value) for message in self.said[before:]]


def flag(of: ClipAnalysed, verdict: str = "wrong", **fields: Any) -> FeedbackGiven:
    """A guide's judgement of an answer."""
    base: dict[str, Any] = {
        "feedback_id": "f", "clip_id": of.clip_id, "stream": of.stream, "site": of.site, "verdict": verdict, "release": of.release,
        "clip_place": of.place, "answer_place": Place(topic="predictions", partition=1, offset=2), "by": "ana", "given_at": NOW,
    }  # fmt: skip
    return FeedbackGiven.model_validate(base | fields)


def voice(of: ClipAnalysed) -> ClipLabelled:
    """A labeler heard somebody."""
    return ClipLabelled(
        label_id="l", clip_id=of.clip_id, stream=of.stream, site=of.site, start_s=0, end_s=5, verdict="speech", by="leo",
        provenance="page", labelled_at=NOW,
    )  # fmt: skip


def withheld(reason: str, why: str) -> float:
    """How often so far."""
    return float(WITHHELD.labels(reason, why)._value.get())


def hertz(sound: bytes) -> list[float]:
    """The loudest tone of each whole window."""
    wave = decode(sound)
    windows = wave[: wave.size // (5 * SAMPLE_RATE) * 5 * SAMPLE_RATE].reshape(-1, 5 * SAMPLE_RATE)
    return [float(np.abs(np.fft.rfft(window)).argmax() / 5) for window in windows]


async def test_a_random_clip_is_published_whole_and_once(tmp_path: Path) -> None:
    """Every field is filled, the sound plays, and the same answer again is no second sample."""
    desk = Desk(tmp_path, sample_rate=1.0)
    answer = desk.answered(ogg(5.0, 1000.0), 0.0, tour_id="tour-1", recorder="H02")
    counted = SAMPLED.labels("random")._value.get()
    [said] = await desk.take(answer)
    assert said.model_dump(exclude={"audio", "sampled_at"}) == {
        "clip_id": answer.clip_id, "stream": "tour-1", "site": "test", "reason": "random", "reasons": "random", "probability": 1.0,
        "topic": "clips", "partition": 3, "offset": 7, "start_s": 0.0, "end_s": 5.0, "tour_id": "tour-1", "recorder": "H02",
        "recorded_at": NOW, "release": "r", "answer_place": "predictions:1:2", "content_type": "audio/ogg",
    }  # fmt: skip
    assert hertz(said.audio) == [1000.0]
    assert desk.said[0].key.decode() == str(answer.clip_id)
    assert await desk.take(answer) == []
    assert SAMPLED.labels("random")._value.get() == counted + 1


async def test_the_sampler_decides_on_ten_thousand_clips_by_its_rate_and_again_the_same(tmp_path: Path) -> None:
    """Its own step from an answer to its reasons, at the rate that is the default; a process begun anew decides as the first."""
    rate = Settings.model_fields["sample_rate"].default
    of = Desk(tmp_path).answered(ogg(0.2), 0.0)
    answers = [of.model_copy(update={"clip_id": uuid5(NAMESPACE, f"clip {n}")}) for n in range(10_000)]

    async def decided(answers: list[ClipAnalysed]) -> dict[UUID, list[Wanted]]:
        chooser = Desk(tmp_path, sample_rate=rate).chooser
        found = [await chooser.reasons(of.place, one) for one in answers]
        return {one.answer.clip_id: one.wants for one in found if one}

    first = await decided(answers)
    assert {want.reason for wants in first.values() for want in wants} == {"random"}
    low, high = binom.interval(0.999, len(answers), 0.05)
    assert low <= len(first) <= high
    assert await decided(answers[::-1]) == first


async def test_the_rate_is_the_probability_and_says_which(tmp_path: Path) -> None:
    desk, sampled = Desk(tmp_path, sample_rate=0.3), []
    answers = [desk.answered(ogg(0.2), 0.0, recorded_at=NOW + timedelta(seconds=n)) for n in range(30)]
    for answer in answers:
        sampled += await desk.take(answer)
    assert [one.clip_id for one in sampled] == [one.clip_id for one in answers if unit(one.clip_id) < 0.3] != []
    assert {one.probability for one in sampled} == {0.3}
    assert sampled[0].end_s == pytest.approx(0.2, abs=0.02), "no longer than the clip"


async def test_of_a_recording_the_random_window_alone(tmp_path: Path) -> None:
    """The one of the hash; a flag beside it is said, and leaves window and probability as they are."""
    desk = Desk(tmp_path, sample_rate=0.999999)
    answer = desk.answered(MINUTE, *[0.0] * 12)
    [said] = await desk.take(answer)
    drawn = random_window(answer.clip_id, 12)
    assert (said.start_s, said.end_s) == (5.0 * drawn, 5.0 * drawn + 5)
    assert hertz(said.audio) == [400.0 * (drawn + 1)]
    [again] = await desk.take(flag(answer))
    assert (again.reason, again.reasons, again.probability) == ("random", "random,flagged", 0.999999)
    assert (again.start_s, again.end_s, again.event_id()) == (said.start_s, said.end_s, said.event_id())
    assert again.sampled_at == said.sampled_at, "a flag does not move what was drawn to another day"
    assert await desk.take(flag(answer, "unknown")) == [], "flagged already"


async def test_of_a_flagged_recording_the_window_in_question_with_its_neighbours(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    scores = [(0.1, 0.9)] * 12
    scores[6] = (0.8, 0.2)
    answer = desk.answered(MINUTE, *[0.0] * 12, labels=("ant", "bat"), scores=scores)
    [said] = await desk.take(flag(answer, "species", labels=("cat",), heard=("ant",)))
    assert (said.reason, said.probability, said.start_s, said.end_s) == ("flagged", 1.0, 25.0, 40.0)
    assert hertz(said.audio) == [2400.0, 2800.0, 3200.0]


async def test_a_flag_that_comes_first_is_overtaken_by_the_draw(tmp_path: Path) -> None:
    """Feedback and predictions are read side by side: whichever is first, the clip ends in the random stratum with its own window."""
    desk = Desk(tmp_path, sample_rate=0.999999)
    answer = desk.answered(MINUTE, *[0.0] * 12)
    [first] = await desk.take(flag(answer))
    assert first.reason == "flagged"
    [second] = await desk.take(answer)
    drawn = random_window(answer.clip_id, 12)
    assert (second.reason, second.reasons, second.probability) == ("random", "random,flagged", 0.999999)
    assert (second.start_s, second.end_s) == (5.0 * drawn, 5.0 * drawn + 5)


@pytest.mark.parametrize("verdict", ["right", "withdrawn"])
async def test_other_judgements_ask_for_nothing(tmp_path: Path, verdict: str) -> None:
    desk = Desk(tmp_path)
    assert await desk.take(flag(desk.answered(ogg(), 0.0), verdict)) == []


async def test_a_probe_is_never_sampled(tmp_path: Path) -> None:
    desk = Desk(tmp_path, sample_rate=1.0)
    answer = desk.answered(ogg(), 0.0, probe=True)
    assert await desk.take(answer) == await desk.take(flag(answer)) == []


async def test_a_release_that_cannot_tell_speech_samples_nothing_until_somebody_answers_for_it(tmp_path: Path) -> None:
    desk, before = Desk(tmp_path, sample_rate=1.0), withheld("random", "untold")
    answer = desk.answered(ogg(), None)
    assert await desk.take(answer) == []
    assert withheld("random", "untold") == before + 1
    allowed = Desk(tmp_path, sample_rate=1.0, sample_untold_speech=True)
    assert len(await allowed.take(allowed.answered(ogg(), None))) == 1


async def test_a_voice_is_withheld_with_its_neighbours(tmp_path: Path) -> None:
    """A guide's clip whole; of a recording what lies beside it, while the rest may be heard."""
    desk, before = Desk(tmp_path, sample_rate=1.0), withheld("random", "speech")
    assert await desk.take(desk.answered(ogg(), 0.1)) == []
    speech = [0.0] * 12
    answer = desk.answered(MINUTE, *speech)
    drawn = random_window(answer.clip_id, 12)
    speech[drawn - 1 if drawn else 1] = 0.5
    assert await desk.take(desk.answered(MINUTE, *speech)) == []
    assert withheld("random", "speech") == before + 2
    scores = [(0.1,)] * 12
    scores[6] = (0.9,)
    flagged = Desk(tmp_path)
    [said] = await flagged.take(flag(flagged.answered(MINUTE, *[0.0] * 4, 0.5, *[0.0] * 7, scores=scores)))
    assert (said.start_s, said.end_s) == (30.0, 40.0), "window 4 holds a voice, 5 is its neighbour"
    assert await flagged.take(flag(flagged.answered(MINUTE, *[0.0] * 5, 0.5, *[0.0] * 6, scores=scores, stream="b"))) == []


async def test_a_voice_that_a_later_answer_hears_keeps_the_part_from_being_said_again(tmp_path: Path) -> None:
    desk, before = Desk(tmp_path), withheld("rare", "speech")
    answer = desk.answered(MINUTE, *[0.0] * 12)
    [said] = await desk.take(flag(answer))
    assert (said.start_s, said.end_s) == (0.0, 10.0)
    later = desk.answered(MINUTE, *[0.0, 0.9], *[0.0] * 10)
    found = await desk.chooser.reasons(Place(topic="predictions", partition=1, offset=3), flag(later))
    assert found is not None
    await desk.chooser.sample(type(found)(later, found.place, [Wanted("rare", 9)]))
    assert len(desk.said) == 1 and withheld("rare", "speech") == before + 1


async def test_a_denied_clip_is_never_sampled(tmp_path: Path) -> None:
    """Nor one in which a labeler heard somebody while its sound was cut."""
    desk, before = Desk(tmp_path, sample_rate=1.0), withheld("random", "denied")
    answer = desk.answered(ogg(), 0.0)
    desk.denied.apply(voice(answer))
    assert await desk.take(answer) == [] and desk.reads == 0, "its sound is not even fetched"
    late = desk.answered(ogg(), 0.0, stream="tour-2")
    desk.while_cutting = lambda: desk.denied.apply(voice(late))
    assert await desk.take(late) == []
    assert withheld("random", "denied") == before + 2


async def test_sound_that_is_gone_or_was_never_sent_is_counted(tmp_path: Path) -> None:
    desk = Desk(tmp_path, sample_rate=1.0)
    before = {key: withheld(*key) for key in (("random", "gone"), ("flagged", "gone"), ("random", "log-mels"), ("random", "not-audio"))}
    answer = desk.answered(ogg(), 0.0)
    of = desk.clips.pop(str(answer.clip_id))
    assert await desk.take(answer) == []
    desk.answers.clear()
    assert await desk.take(flag(answer)) == []
    desk.clips[str(answer.clip_id)] = of.model_copy(update={"content_type": "application/x-npy", "feature_fingerprint": "f"})
    assert await desk.take(answer) == []
    desk.clips[str(answer.clip_id)] = of.model_copy(update={"audio": b"no sound"})
    assert await desk.take(answer) == []
    assert {key: withheld(*key) - count for key, count in before.items()} == dict.fromkeys(before, 1.0)


async def test_a_quota_a_day_site_and_reason_which_a_restart_remembers(tmp_path: Path) -> None:
    """Random samples have none. What lies on `samples` of another day leaves the room; the same clip again takes none."""
    desk, before = Desk(tmp_path, sample_quota=2), withheld("flagged", "quota")
    answers = [desk.answered(ogg(0.2), 0.0, stream=f"tour-{n}") for n in range(4)]
    for answer in answers[:2]:
        assert len(await desk.take(flag(answer))) == 1
    assert await desk.take(flag(answers[2])) == []
    assert withheld("flagged", "quota") == before + 1

    def restarted(days: int = 0) -> Desk:
        samples = Samples(2)
        for message in desk.said:
            event = read_event(ClipSampled, message.headers, b"")
            samples.put(message.key.decode(), Sampled.of(event.model_copy(update={"sampled_at": event.sampled_at - timedelta(days=days)})))
        again = Desk(tmp_path, samples, sample_quota=2)
        again.clips, again.answers = desk.clips, desk.answers
        return again

    again = restarted()
    assert await again.take(flag(answers[0])) == [], "said before the restart, and again after it: one sample"
    assert await again.take(flag(answers[2])) == []
    assert len(await again.take(flag(answers[2].model_copy(update={"site": "other"})))) == 0, "the answer says the site"
    assert len(await restarted(days=1).take(flag(answers[2]))) == 1


def test_the_fuller_the_quota_the_nearer_a_score_must_lie() -> None:
    samples = Samples(10)
    assert samples.room("s", Wanted("uncertain", 0, 0.099), TODAY)
    for n in range(5):
        samples.put(str(n), Sampled("s", ("uncertain",), 0.0, 5.0, 1.0, NOW))
    assert not samples.room("s", Wanted("uncertain", 0, 0.06), TODAY) and samples.room("s", Wanted("uncertain", 0, 0.04), TODAY)
    assert samples.room("s", Wanted("uncertain", 0, 0.06), TODAY + timedelta(days=1))
    assert samples.room("s", Wanted("rare", 0), TODAY) and samples.room("other", Wanted("uncertain", 0, 0.06), TODAY)
    samples.put("0", Sampled("s", ("random", "uncertain"), 0.0, 5.0, 0.05, NOW))
    assert (len(samples), samples.used("s", "uncertain", TODAY), samples.used("s", "random", TODAY)) == (5, 5, 1)
    samples.put("0", None)
    samples.put("never", None)
    assert (len(samples), samples.used("s", "uncertain", TODAY), samples.used("s", "random", TODAY)) == (4, 4, 0)
    assert not Samples(0).room("s", Wanted("flagged", 0), TODAY) and Samples(0).room("s", Wanted("random", 0), TODAY)


def test_a_species_is_rare_while_few_answers_of_many_name_it() -> None:
    heard = Heard()
    assert not heard.rare("s", "ant", TODAY), "nothing is known yet"
    for _ in range(ENOUGH):
        heard.note("s", ["bat"], TODAY)
    assert heard.rare("s", "ant", TODAY) and not heard.rare("s", "bat", TODAY) and not heard.rare("other", "ant", TODAY)
    for n in range(FEW):
        assert heard.rare("s", "ant", TODAY)
        heard.note("s", ["ant", "ant"], TODAY + timedelta(days=n))
    assert not heard.rare("s", "ant", TODAY + RARE_DAYS)
    assert heard.rare("s", "ant", TODAY + RARE_DAYS + timedelta(days=1)), "the first was too long ago"


async def test_a_release_at_hand_tells_what_is_uncertain(tmp_path: Path) -> None:
    """By its own threshold; of a release that is no longer there, nothing is."""
    desk = Desk(tmp_path)
    loaded = tone_release(desk.settings.releases / "tones", "tones")
    near = {"labels": ("low", "mid", "top"), "scores": [(0.0, 0.45, 0.0)], "release": "tones"}
    [said] = await desk.take(desk.answered(ogg(), 0.0, release_digest=loaded.digest, **near))
    assert (said.reason, said.probability) == ("uncertain", 1.0)
    assert await desk.take(desk.answered(ogg(), 0.0, stream="b", release_digest="1" * 64, **near)) == []


async def test_a_broker_that_is_away_changes_nothing(tmp_path: Path) -> None:
    """The same again is the same sample, and it was not counted."""
    desk, counted = Desk(tmp_path, sample_rate=1.0), SAMPLED.labels("random")._value.get()
    answer = desk.answered(ogg(), 0.0)
    desk.away = True
    with pytest.raises(Unavailable):
        await desk.take(answer)
    assert len(desk.samples) == 0 and SAMPLED.labels("random")._value.get() == counted
    desk.away = False
    [said] = await desk.take(answer)
    assert said.event_id() == f"{answer.clip_id}/random"


def test_a_part_is_cut_where_it_says() -> None:
    sound, end_s = cut(MINUTE, 55.0, 60.0)
    assert hertz(sound) == [4800.0] and end_s == pytest.approx(60.0, abs=0.05)
    with pytest.raises(Invalid) as refused:
        cut(ogg(5.0), 10.0, 15.0)
    assert refused.value.reason == Reason.TOO_SHORT


class Topic:
    """A topic in memory behind aiokafka's consumer; the connection breaks once, where it is told to."""

    def __init__(self, values: list[str], breaks_at: int = -1) -> None:
        self.values, self.breaks_at, self.at = values, breaks_at, dict[TopicPartition, int]()
        self.connections = 0

    def __call__(self, **_: Any) -> Topic:
        self.connections += 1
        return self

    async def start(self) -> None:
        """Nothing to begin."""

    async def stop(self) -> None:
        """Nothing to end."""

    def assign(self, parts: list[TopicPartition]) -> None:
        self.first = parts[0]

    async def seek_to_beginning(self, *parts: TopicPartition) -> None:
        self.at = dict.fromkeys(parts, 0)

    def seek(self, part: TopicPartition, offset: int) -> None:
        self.at[part] = offset

    async def end_offsets(self, parts: list[TopicPartition]) -> dict[TopicPartition, int]:
        return dict.fromkeys(parts, 0) | {self.first: len(self.values)}

    async def position(self, part: TopicPartition) -> int:
        return self.at[part]

    async def getmany(self, timeout_ms: int) -> dict[TopicPartition, list[Any]]:
        await asyncio.sleep(0)
        at = self.at[self.first]
        if at == self.breaks_at:
            self.breaks_at = -1
            raise KafkaConnectionError("gone")
        if at == len(self.values):
            return {}
        self.at[self.first] += 1
        return {self.first: [SimpleNamespace(offset=at, value=self.values[at])]}


async def test_a_topic_is_followed_through_a_lost_connection_and_nothing_is_taken_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    topic, taken, read = Topic(["a", "b", "c"], breaks_at=2), list[str](), asyncio.Event()
    monkeypatch.setattr(sample_follow, "AIOKafkaConsumer", topic)
    monkeypatch.setattr(sample_follow, "RETRY_S", 0.0)
    last = asyncio.Event()

    def take(record: Any) -> None:
        taken.append(record.value)
        if record.value == "d":
            last.set()

    following = asyncio.create_task(follow(Settings(), LABELS, take, read))
    await read.wait()
    assert (taken, topic.connections) == (["a", "b", "c"], 2)
    topic.values.append("d")
    async with asyncio.timeout(10):
        await last.wait()
    following.cancel()
    assert taken == ["a", "b", "c", "d"]


@pytest.fixture
def sampler(tmp_path: Path) -> Any:
    """The process, without a broker."""
    made = Sampler(Settings(data_dir=tmp_path))
    yield made
    made._children.close()


def record(topic: str, event: Event) -> Any:
    """A record as a consumer hands it over."""
    sent = encode(event)
    return SimpleNamespace(topic=topic, partition=0, offset=0, key=sent.key, headers=sent.headers, value=sent.value)


@pytest.mark.parametrize("last", ["_samples_read", "_labels_read", "_warm"])
async def test_no_clip_is_judged_before_samples_and_labels_are_read(
    sampler: Sampler, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, last: str
) -> None:
    """It waits, its age shows against what its sound has left, and it waits out a broker that is away."""
    desk = Desk(tmp_path, sample_rate=1.0)
    sampler._chooser, judge, judged = desk.chooser, desk.chooser.reasons, list[Place]()

    async def noted(place: Place, event: Any) -> Any:
        judged.append(place)
        return await judge(place, event)

    monkeypatch.setattr(desk.chooser, "reasons", noted)
    monkeypatch.setattr("stream_processors.sample_process.RETRY_S", (0.0,))
    answer = desk.answered(ogg(), 0.0)
    old = answer.model_copy(update={"stages": answer.stages.model_copy(update={"predicted": NOW - timedelta(days=3)})})
    sent, desk.away = encode(old), True
    handled = asyncio.create_task(sampler.handle(Place(topic="predictions", partition=1, offset=2), sent.key, sent.headers, sent.value))
    watching = asyncio.create_task(sampler._watch_age())
    await asyncio.sleep(0)  # both have begun
    assert SAMPLE_LAG.labels("clips")._value.get() >= 3 * 24 * 3600 > SAMPLE_LAG.labels("recordings")._value.get()
    assert SAMPLE_LAG_SHARE.labels("clips")._value.get() == pytest.approx(0.1, abs=0.001)
    assert not sampler.waiting() and not handled.done()
    for gate in sorted({"_samples_read", "_labels_read", "_warm"} - {last}):
        getattr(sampler, gate).set()
    for _ in range(20):  # turns of the loop: more than it takes to begin
        await asyncio.sleep(0)
    assert sum(sampler.not_yet().values()) == 1 and not judged
    getattr(sampler, last).set()
    async with asyncio.timeout(10):
        await desk.asked.wait()
        assert sampler.waiting() == "no broker"
        desk.away = False
        await handled
    watching.cancel()
    assert len(desk.said) == 1 and not sampler.waiting() and not any(sampler.not_yet().values()) and not sampler._begun


async def test_what_does_not_decode_is_counted_and_passed_over(sampler: Sampler) -> None:
    before = {name: UNREADABLE.labels(NAME, name)._value.get() for name in ("predictions", "feedback", "samples", "labels")}
    for name in ("predictions", "feedback"):
        await sampler.handle(Place(topic=name, partition=0, offset=0), None, [], b"?")
    odd = SimpleNamespace(topic="samples", partition=0, offset=0, key=None, headers=[], value=b"?")
    sampler._take_sample(odd)
    sampler._take_label(SimpleNamespace(**vars(odd) | {"topic": "labels"}))
    assert {name: UNREADABLE.labels(NAME, name)._value.get() - count for name, count in before.items()} == dict.fromkeys(before, 1.0)


async def test_samples_and_labels_are_known_from_the_log(sampler: Sampler, tmp_path: Path) -> None:
    """A tombstone and a voice take a sample away."""
    desk = Desk(tmp_path, sample_rate=1.0)
    answers = [desk.answered(ogg(0.2), 0.0, stream=f"tour-{n}") for n in range(2)]
    events = [(await desk.take(answer))[0] for answer in answers]
    for event in events:
        sampler._take_sample(record("samples", event))
    assert sampler._samples.get(str(answers[0].clip_id)) == desk.samples.get(str(answers[0].clip_id))
    assert sampler.report() == {"sampled": 2, "denied": 0}
    sampler._take_sample(SimpleNamespace(**vars(record("samples", events[0])) | {"value": None}))
    assert sampler.report() == {"sampled": 1, "denied": 0}
    sampler._take_label(record("labels", voice(answers[1])))
    assert sampler.report() == {"sampled": 0, "denied": 1}


async def test_the_decoding_child_plays_its_part(sampler: Sampler) -> None:
    """Over the process boundary; bytes that are no sound come back as Invalid."""
    await sampler._start()
    sound, _ = await sampler._children.run(cut, MINUTE, 5.0, 10.0)
    assert hertz(sound) == [800.0]
    with pytest.raises(Invalid):
        await sampler._children.run(cut, b"nothing", 0.0, 5.0)
    wait_for(lambda: sampler._warm.is_set(), "the decoder")
