"""The sampler on the real stack: what labelers get to hear of clips that flow, and what nobody does."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import count
from typing import Any

import httpx
import numpy as np
import pytest
from kafka.admin import NewTopic
from kafka.errors import KafkaError

from soundscape import clip_reader
from soundscape.audio import SAMPLE_RATE, decode, encode_ogg
from soundscape.clip_reader import ClipReader
from soundscape.events import ClipAnalysed, ClipRecorded, ClipSampled, FeedbackGiven, MinuteRecorded, Place
from soundscape.kafka import new_admin, new_consumer, new_producer, publish, read_all
from soundscape.release import RELEASE_FILE, load_release, write_release
from soundscape.sampling import random_window, unit
from soundscape.settings import Port
from soundscape.testing import Stack, ogg, tone, tone_release, wait_for
from soundscape.testing_log import Lane, Log, clip
from soundscape.topics import CLIPS, FEEDBACK, SAMPLES, Topic
from soundscape.wire import decode as read_event
from soundscape.wire import encode

SITE = "voices"
"""Its release calls 8 kHz a voice."""
RATE = 0.05
NAME = "sample"
MOMENTS = count()


@pytest.fixture(scope="module")
def voices(stack: Stack) -> str:
    """A site whose release can tell speech."""
    folder = stack.settings.releases / "tones-voices"
    release = tone_release(folder, "tones-voices").release
    (folder / RELEASE_FILE).unlink()
    write_release(folder, release.model_copy(update={"sound_events": {"speech": ("top",)}}))
    assert load_release(folder).release.sound_events == {"speech": ("top",)}
    stack.run("deploy", "tones-voices", "--site", SITE)
    wait_for(lambda: health(stack)["healthy"], "the sampler")
    return SITE


def health(stack: Stack) -> dict[str, Any]:
    """What the sampler says of itself."""
    try:
        said: dict[str, Any] = httpx.get(f"{stack.settings.url(Port.SAMPLE)}/healthz").json()
    except httpx.HTTPError:
        return {"healthy": False}
    return said


def withheld(stack: Stack, reason: str, why: str) -> float:
    """How often so far, by the sampler's own metrics."""
    lines = httpx.get(f"{stack.settings.url(Port.SAMPLE)}/metrics").text.splitlines()
    wanted = f'soundscape_withheld_total{{reason="{reason}",why="{why}"}} '
    return sum(float(line.removeprefix(wanted)) for line in lines if line.startswith(wanted))


def drawn(body: bytes, lane: Lane = "live", *, random: bool = True, window: int | None = None, site: str = SITE) -> ClipRecorded:
    """A clip that is in the random stratum, or not, with its random window where it is wanted: found by trying moments."""
    start = datetime(2026, 11, 1, tzinfo=UTC)
    for n in MOMENTS:
        event = clip(body, site=site, stream="tour-1", tour_id="tour-1", lane=lane, recorded_at=start + timedelta(seconds=n))
        if (unit(event.clip_id) < RATE) is random and (window is None or random_window(event.clip_id, 12) == window):
            return event
    raise AssertionError("unreachable")


@pytest.fixture
def samples(stack: Stack) -> Iterator[Any]:
    """Asks for every sample of a clip so far, oldest first."""
    consumer = new_consumer(stack.settings)

    def of(clip_id: object) -> list[ClipSampled]:
        records = [record for record in read_all(consumer, [SAMPLES.name]) if record.key.decode() == str(clip_id)]
        return [read_event(ClipSampled, record.headers, record.value) for record in records]

    yield of
    consumer.close()


def flag(log: Log, answer: ClipAnalysed, answer_place: Place, verdict: str = "wrong") -> None:
    """A guide judges an answer."""
    said = {
        "feedback_id": f"f{next(MOMENTS)}", "clip_id": answer.clip_id, "stream": answer.stream, "site": answer.site, "verdict": verdict,
        "release": answer.release, "clip_place": answer.place, "answer_place": answer_place, "by": "ana", "given_at": datetime.now(UTC),
    }  # fmt: skip
    log.put(FEEDBACK.name, FeedbackGiven.model_validate(said))


def place_of(stack: Stack, answer: ClipAnalysed) -> Place:
    """Where an answer lies."""
    consumer = new_consumer(stack.settings)
    try:
        return next(
            Place(topic=record.topic, partition=record.partition, offset=record.offset)
            for record in read_all(consumer, ["predictions"])
            if dict(record.headers)["ce_clipid"].decode() == str(answer.clip_id)
        )
    finally:
        consumer.close()


def test_random_clips_arrive_with_their_sound_and_others_do_not(stack: Stack, log: Log, voices: str, samples: Any) -> None:
    """5 s whole; of a minute the window of the hash; each with where it lies and what answered it."""
    others = [drawn(ogg(5.0, 500.0), random=False) for _ in range(10)]
    chosen = [drawn(ogg(5.0, 2000.0)) for _ in range(3)]
    minute = encode_ogg(np.concatenate([tone(5.0, 400.0 * (n + 1)) for n in range(12)]))
    recording = drawn(minute, "bulk", window=4)
    assert isinstance(recording, MinuteRecorded)
    for event in [*others, *chosen, recording]:
        log.send(event)
    answers = {event.clip_id: log.prediction(str(event.clip_id)) for event in [*others, *chosen, recording]}
    assert all("speech" in window.events for answer in answers.values() for window in answer.windows)
    for event in [*chosen, recording]:
        said = wait_for(partial(samples, event.clip_id), f"a sample of {event.clip_id}")[0]
        answer = answers[event.clip_id]
        assert (said.reason, said.probability, said.site, said.tour_id) == ("random", RATE, SITE, "tour-1")
        assert (said.topic, said.partition, said.offset) == (answer.place.topic, answer.place.partition, answer.place.offset)
        assert (said.release, said.recorded_at) == ("tones-voices", event.recorded_at)
        assert said.answer_place == str(place_of(stack, answer))
        wave = decode(said.audio)
        assert abs(wave.size / SAMPLE_RATE - 5.0) < 0.1 and said.end_s == pytest.approx(said.start_s + 5.0, abs=0.1)
        loudest = np.abs(np.fft.rfft(wave)).argmax() * SAMPLE_RATE / wave.size
        assert loudest == pytest.approx(2000.0, abs=1.0), "window 4 of the recording has the same tone"
        assert said.start_s == (20.0 if event is recording else 0.0)
    assert not any(one.reason == "random" for event in others for one in samples(event.clip_id))


def test_a_voice_and_what_cannot_be_told_are_withheld(stack: Stack, log: Log, voices: str, samples: Any) -> None:
    """A guide's clip whole, the neighbour of a voice in a minute, and all of a site whose release cannot tell speech."""
    beside = encode_ogg(np.concatenate([tone(5.0, 8000.0 if n == 6 else 500.0) for n in range(12)]))
    silenced = [drawn(ogg(5.0, 8000.0)), drawn(beside, "bulk", window=5)]
    untold = drawn(ogg(5.0, 2000.0), site="test")
    heard = drawn(beside, "bulk", window=4)
    before = withheld(stack, "random", "speech"), withheld(stack, "random", "untold")
    for event in [*silenced, untold, heard]:
        log.send(event)
    wait_for(lambda: withheld(stack, "random", "speech") == before[0] + 2, "two clips withheld for a voice")
    wait_for(lambda: withheld(stack, "random", "untold") == before[1] + 1, "a clip withheld because nothing tells a voice")
    assert wait_for(lambda: samples(heard.clip_id), "a sample beyond the neighbour")[0].start_s == 20.0
    assert [samples(event.clip_id) for event in [*silenced, untold]] == [[], [], []]


def test_a_flag_brings_its_clip_and_a_restart_forgets_nothing(stack: Stack, log: Log, voices: str, samples: Any) -> None:
    """Killed by kill -9 and started again, the sampler knows what lies on `samples`: a second flag is no second sample."""
    events = [drawn(ogg(5.0, 2000.0), random=False), drawn(ogg(5.0, 2000.0)), drawn(ogg(5.0, 2000.0), random=False)]
    for event in events:
        log.send(event)
    answers = [log.prediction(str(event.clip_id)) for event in events]
    places = [place_of(stack, answer) for answer in answers]
    wait_for(lambda: samples(events[1].clip_id), "a random sample")
    for n in (0, 1):
        flag(log, answers[n], places[n])
    assert wait_for(lambda: samples(events[0].clip_id), "a flagged sample")[0].reason == "flagged"
    joined = wait_for(lambda: samples(events[1].clip_id)[1:], "the random sample with both its reasons")
    assert (joined[0].reason, joined[0].reasons, joined[0].probability) == ("random", "random,flagged", RATE)

    pid = stack.status()[NAME]["pid"]
    os.kill(pid, signal.SIGKILL)
    wait_for(lambda: stack.status()[NAME]["pid"] not in (None, pid) and health(stack)["healthy"], "the sampler again", 120.0)
    for n in (0, 1):
        flag(log, answers[n], places[n], "unknown")
    flag(log, answers[2], places[2])  # one stream, so one partition: it is done after the others
    wait_for(lambda: samples(events[2].clip_id), "a sample after the restart")
    assert [len(samples(event.clip_id)) for event in events] == [1, 2, 1]


def test_an_offset_that_holds_another_clip_by_now(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    """A topic made anew under a reader that has read it before."""
    name = "scratch-clips"
    monkeypatch.setitem(clip_reader.SOUNDS, name, Topic(name, CLIPS.event, "stream", 1, 1, 0.0, (), (), ""))
    admin, producer = new_admin(stack.settings), new_producer(stack.settings)
    first, second = clip(ogg(5.0, 500.0)), clip(ogg(5.0, 2000.0))
    place = Place(topic=name, partition=0, offset=0)

    def made_anew(event: ClipRecorded) -> None:
        def created() -> bool:
            try:
                admin.create_topics([NewTopic(name, 1, 1)])
            except KafkaError:  # the old one is still being deleted
                return False
            return True

        wait_for(created, "the topic")
        assert publish(producer, name, encode(event)).offset == 0

    with ClipReader(stack.settings) as reader:
        made_anew(first)
        assert reader.read(place, first.clip_id) == first
        assert reader.read(place, second.clip_id) is None
        assert reader.read(place.model_copy(update={"offset": 1}), first.clip_id) is None, "beyond the end"
        admin.delete_topics([name])
        producer.close()
        producer = new_producer(stack.settings)
        made_anew(second)
        assert reader.read(place, first.clip_id) is None
        assert reader.read(place, second.clip_id) == second
        admin.delete_topics([name])
    producer.close()
    admin.close()
