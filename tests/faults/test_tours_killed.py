"""Kill -9 of the tours' process at random points of a tour with feedback: in the end its state is what a recount of the log gives."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Literal
from uuid import uuid4, uuid5

import psutil
import pytest
from kafka import KafkaProducer

from compose.local.supervision import Supervisor
from consumers.tour_recount import differences, read_summaries, recount
from soundscape.events import NAMESPACE, ClipAnalysed, ClipLabelled, Detection, FeedbackGiven, Names, Place, Stages, TourMoved, Window
from soundscape.kafka import new_producer, say
from soundscape.testing import Stack, free_base, wait_for
from soundscape.testing_tours import Summaries
from soundscape.topics import FEEDBACK, LABELS, PREDICTIONS, TOUR_EVENTS
from soundscape.wire import encode

KILLS = 10
CLIPS = 150
SEED = 20260301
LABELS_KNOWN = ("low", "mid", "top")


def answer(tour: str, number: int, chance: random.Random) -> ClipAnalysed:
    """An answer of a tour's clip, naming some species with some confidence."""
    moment = datetime(2026, 3, 1, 6, tzinfo=UTC) + timedelta(seconds=5 * number)
    named = chance.sample(LABELS_KNOWN, chance.randint(0, 2))
    return ClipAnalysed(
        clip_id=uuid5(NAMESPACE, f"{tour}/{number}"), stream=tour, site="test", tour_id=tour, recorded_at=moment,
        place=Place(topic="clips", partition=0, offset=number), release=chance.choice(["tones", "better"]), release_digest="d",
        generation=1, feature_fingerprints=(), labels=(), windows=(Window(start_s=0.0, end_s=5.0, scores=()),),
        detections=tuple(
            Detection(
                label=label, names=Names(scientific=f"Tonus {label}", en=f"{label} tone", es=f"tono {label}"), taxon="Aves",
                confidence=(score := round(chance.uniform(0.5, 1.0), 3)), unweighted=score, threshold=0.5, start_s=0.0, end_s=5.0,
            )
            for label in named
        ),
        stages=Stages(published=(now := datetime.now(UTC)), received=now, decoded=now, features=now, inferred=now, predicted=now),
    )  # fmt: skip


def feedback(clip: ClipAnalysed, chance: random.Random) -> FeedbackGiven:
    """What a guide says of it: each guide one judgement a clip, which may change."""
    by = chance.choice(["ana", "ben"])
    verdict: Literal["right", "wrong", "species", "unknown", "withdrawn"] = chance.choice(
        ["right", "wrong", "species", "unknown", "withdrawn"]
    )
    return FeedbackGiven(
        feedback_id=f"{by}-{clip.clip_id}", clip_id=clip.clip_id, stream=clip.stream, site=clip.site, tour_id=clip.tour_id,
        verdict=verdict, labels=(chance.choice(LABELS_KNOWN),) if verdict == "species" else (),
        heard=tuple(one.label for one in clip.detections), recorded_at=clip.recorded_at, release=clip.release,
        clip_place=clip.place, answer_place=Place(topic="predictions", partition=0, offset=0), by=by, given_at=datetime.now(UTC),
    )  # fmt: skip


def label(clip: ClipAnalysed, chance: random.Random) -> ClipLabelled:
    """What a labeler says of it."""
    named = chance.choice(LABELS_KNOWN)
    return ClipLabelled(
        label_id=f"lena-{clip.clip_id}", clip_id=clip.clip_id, stream=clip.stream, site=clip.site, start_s=0.0, end_s=5.0,
        verdict=chance.choice(["species", "nothing"]), labels=(named,), by="lena", provenance="page", labelled_at=datetime.now(UTC),
    )  # fmt: skip


def kill(stack: Stack) -> int:
    """Kill -9 of the process in whatever it does; returns its pid once it is gone."""
    process = wait_for(lambda: running(stack), "the process to run")
    process.kill()
    wait_for(lambda: not process.is_running() or process.status() == psutil.STATUS_ZOMBIE, f"the end of {process.pid}")
    return int(process.pid)


def running(stack: Stack) -> psutil.Process | None:
    """The process, if it lives: the supervisor names one for a moment longer that was killed."""
    pid = Supervisor(stack.settings).states()["tours"]["pid"]
    with suppress(psutil.NoSuchProcess):
        if pid and (process := psutil.Process(int(pid))).status() != psutil.STATUS_ZOMBIE:
            return process
    return None


class Story:
    """A tour with feedback, said piece by piece."""

    def __init__(self, producer: KafkaProducer, tour: str) -> None:
        self._producer, self.tour, self._chance = producer, tour, random.Random(SEED)
        self._clips: list[ClipAnalysed] = []
        say(producer, TOUR_EVENTS, TourMoved(tour_id=tour, site="test", what="started", by="ana", at=datetime.now(UTC)))

    def goes_on(self, clips: int) -> None:
        """So many clips more, with judgements of them and of those before, and answers that change."""
        chance, waits = self._chance, []

        def send(topic: Any, event: Any) -> None:
            message = encode(event)
            waits.append(self._producer.send(topic.name, key=message.key, value=message.value, headers=message.headers))

        for _ in range(clips):
            self._clips.append(answer(self.tour, len(self._clips), chance))
            send(PREDICTIONS, self._clips[-1])
            if chance.random() < 0.5:
                send(FEEDBACK, feedback(chance.choice(self._clips), chance))
            if chance.random() < 0.2:
                number = chance.randrange(len(self._clips))
                self._clips[number] = answer(self.tour, number, chance)
                send(PREDICTIONS, self._clips[number])
            if chance.random() < 0.2:
                send(LABELS, label(chance.choice(self._clips), chance))
        for wait in waits:
            wait.get(timeout=30)

    def ends(self) -> None:
        """With a rating."""
        ended = TourMoved(tour_id=self.tour, site="test", what="ended", by="ana", rating=4, at=datetime.now(UTC))
        say(self._producer, TOUR_EVENTS, ended)


@pytest.fixture
def light(tmp_path: Path) -> Iterator[Stack]:
    """The broker and the tours' process alone."""
    stack = Stack(tmp_path, free_base())
    try:
        stack.run("up", "tours")
        yield stack
    finally:
        stack.run("down", check=False)


@pytest.mark.slow
def test_ten_times_in_a_tour(light: Stack) -> None:
    """Each life ends after some more summaries, or at once, while the one before is rebuilt; what comes again makes no difference."""
    chance, tour = random.Random(SEED), f"killed-{uuid4().hex[:8]}"
    producer = new_producer(light.settings)
    story, killed, share = Story(producer, tour), set(), CLIPS // KILLS
    with Summaries(light.settings) as summaries:
        for n in range(KILLS):
            said = summaries.get(tour)
            goal = (said.clips if said else 0) + chance.randint(1, share)
            story.goes_on(share)
            if n % 3 != 2:
                reaches(summaries, tour, goal)
            killed.add(kill(light))
    story.ends()
    producer.close()
    assert len(killed) == KILLS
    _, lines = differences(light.settings, 120.0)
    assert lines == []
    summed, counted = read_summaries(light.settings)[tour], recount(light.settings)[tour]
    assert (summed.clips, summed.rating, summed.stream) == (CLIPS, 4, tour)
    assert summed.feedback > 10
    assert summed.model_copy(update={"at": counted.at}) == counted


def reaches(summaries: Summaries, tour: str, clips: int) -> None:
    """Wait until the tour's last summary has so many clips."""
    summaries.until(tour, lambda said: said.clips >= clips, f"{clips} clips summed", 120.0)
