"""The archive follows a real log, and holds what a recount of that log says."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar
from uuid import uuid4

import pyarrow.parquet as pq
import pytest

from consumers.archive import ARCHIVE_TOPICS, PROCESS, Archive, follow
from consumers.archive_ledger import Ledger
from consumers.archive_rows import CONFIRMED, HEARD, REJECTED, SAID
from consumers.follow import Follower, Pulse
from soundscape.errors import Invalid
from soundscape.events import ClipAnalysed, ClipLabelled, ClipRecorded, Event, FeedbackGiven, Place, TourSummed
from soundscape.judgements import standing_feedback, standing_labels
from soundscape.kafka import abandon, new_consumer, new_producer, read_all, say
from soundscape.settings import Settings
from soundscape.testing import Stack, ogg
from soundscape.testing_log import Log, clip
from soundscape.testing_tours import Summaries
from soundscape.topics import FEEDBACK, LABELS, PREDICTIONS, TOURS, Topic
from soundscape.wire import decode

E = TypeVar("E", bound=Event)
START = datetime(2026, 3, 1, 23, 59, 58, tzinfo=UTC)


def said(settings: Settings, topic: Topic, kind: type[E]) -> list[E]:
    """All that decodes on a topic."""
    consumer = new_consumer(settings)
    found: list[E] = []
    for record in read_all(consumer, [topic.name]):
        try:
            found.append(decode(kind, record.headers, record.value))
        except Invalid:
            continue
    consumer.close()
    return found


class Kept:
    """An archive of its own beside the stack's."""

    def __init__(self, settings: Settings, folder: Path) -> None:
        self._settings, self.folder, self._ledger = settings, folder / "archive", folder / "archive.sqlite"

    def run(self, limit_s: float = 90.0) -> None:
        """Follow the log until all that is there now is in the files, in a process of its own as far as the ledger can tell."""
        consumer = new_consumer(self._settings)
        ledger = Ledger(self._ledger)
        deadline = datetime.now(UTC) + timedelta(seconds=limit_s)
        with Follower(self._settings, PROCESS, ARCHIVE_TOPICS) as follower:
            ends = {f"{part.topic}:{part.partition}": end for part, end in consumer.end_offsets(follower.parts).items() if end}
            consumer.close()

            def done() -> bool:
                assert datetime.now(UTC) < deadline, "the archive did not come to the end of the log"
                at = ledger.positions()
                return all(at.get(part, 0) >= end for part, end in ends.items())

            follow(follower, ledger, Archive(self.folder, ledger), Pulse(), flush_s=0.2, until=done)
        ledger.close()

    def rows(self, table: str) -> list[dict[str, Any]]:
        """All rows, as any reader of Parquet sees them."""
        folder = self.folder / table
        return pq.read_table(folder).to_pylist() if any(folder.glob("*/*.parquet")) else []


class Story:
    """Clips that are answered, and what people said of them."""

    def __init__(self, stack: Stack, log: Log) -> None:
        self.stream, self._log, self._producer = f"archive-{uuid4().hex[:8]}", log, new_producer(stack.settings)

    def close(self) -> None:
        """Leave the broker."""
        abandon(self._producer)

    def heard(self, second: int, hertz: float) -> ClipRecorded:
        """A clip of the tour, answered."""
        event = clip(ogg(hertz=hertz), stream=self.stream, tour_id=self.stream, recorded_at=START + timedelta(seconds=second))
        self._log.prediction(self._log.send(event))
        return event

    def answered_again(self, event: ClipRecorded) -> None:
        """Its answer comes once more, as when a worker was killed."""
        say(self._producer, PREDICTIONS, self._log.predictions[str(event.clip_id)][-1])

    def guide(self, of: ClipRecorded, verdict: str, *labels: str, heard: tuple[str, ...] = ()) -> None:
        """A guide's word."""
        place = Place(topic="clips", partition=0, offset=0)
        say(self._producer, FEEDBACK, FeedbackGiven.model_validate(
            {"feedback_id": f"g-{of.clip_id}", "clip_id": of.clip_id, "stream": of.stream, "site": of.site, "verdict": verdict,
             "labels": labels, "heard": heard, "release": "tones", "clip_place": place, "answer_place": place, "by": "guide",
             "given_at": datetime.now(UTC)}
        ))  # fmt: skip

    def label(self, of: ClipRecorded, verdict: str, *labels: str) -> None:
        """A labeler's word."""
        say(self._producer, LABELS, ClipLabelled.model_validate(
            {"label_id": f"l-{of.clip_id}", "clip_id": of.clip_id, "stream": of.stream, "site": of.site, "start_s": 0.0, "end_s": 5.0,
             "verdict": verdict, "labels": labels, "by": "ana", "provenance": "page", "labelled_at": datetime.now(UTC)}
        ))  # fmt: skip

    def summed(self, clips: int) -> None:
        """Wait until the tour's summary holds so many clips."""
        with Summaries(self._log.settings) as summaries:
            summaries.until(self.stream, lambda found: found.clips == clips, f"{clips} clips of the tour")


@pytest.fixture
def story(stack: Stack, log: Log) -> Iterator[Story]:
    """Put on the log of the running stack."""
    told = Story(stack, log)
    yield told
    told.close()


def test_the_archive_is_what_a_recount_of_the_log_says(stack: Stack, story: Story, tmp_path: Path) -> None:
    """Stopped and started again in the middle, with records that come twice, corrections and a voice."""
    kept = Kept(stack.settings, tmp_path)
    one, two = story.heard(0, 500.0), story.heard(1, 2000.0)
    story.guide(one, "wrong", heard=("low",))
    story.summed(2)
    kept.run()
    three, four = story.heard(2, 8000.0), story.heard(3, 2000.0)
    story.guide(one, "right", heard=("low",))
    story.guide(two, "species", "top", heard=("mid",))
    story.label(three, "nothing")
    story.label(four, "speech")
    story.answered_again(one)
    story.answered_again(four)
    story.summed(4)
    kept.run()

    answers = {str(event.clip_id): event for event in said(stack.settings, PREDICTIONS, ClipAnalysed) if not event.probe}
    labels = standing_labels(said(stack.settings, LABELS, ClipLabelled))
    denied = {str(event.clip_id) for event in labels if event.verdict == "speech"}
    assert str(four.clip_id) in denied
    days = {clip_id: (event.recorded_at or event.stages.published).date() for clip_id, event in answers.items() if clip_id not in denied}
    assert sorted((row["clip_id"], row["day"]) for row in kept.rows("clips")) == sorted((one, day.isoformat()) for one, day in days.items())
    detections = sorted((clip_id, one.label, one.start_s) for clip_id in days for one in answers[clip_id].detections)
    rows = kept.rows("detections")
    assert sorted((row["clip_id"], row["label"], row["start_s"]) for row in rows if row["status"] != SAID) == detections
    feedback = [event for event in standing_feedback(said(stack.settings, FEEDBACK, FeedbackGiven)) if str(event.clip_id) not in denied]
    assert sorted((row["feedback_id"], row["verdict"]) for row in kept.rows("feedback")) == sorted(
        (event.feedback_id, event.verdict) for event in feedback
    )
    assert sorted(row["label_id"] for row in kept.rows("labels")) == sorted(
        event.label_id for event in labels if str(event.clip_id) not in denied
    )
    tours = {event.tour_id: event.clips for event in said(stack.settings, TOURS, TourSummed)}
    assert {row["tour_id"]: row["clips"] for row in kept.rows("tours")} == tours and tours[story.stream] == 4

    own = [row for row in rows if row["stream"] == story.stream]
    mine = {(row["clip_id"], row["label"]): (row["status"], date.fromisoformat(row["day"])) for row in own}
    first, second = date(2026, 3, 1), date(2026, 3, 2)
    assert mine == {
        (str(one.clip_id), "low"): (CONFIRMED, first),
        (str(two.clip_id), "mid"): (REJECTED, first),
        (str(two.clip_id), "top"): (SAID, first),
        (str(three.clip_id), "top"): (REJECTED, second),
    }
    story.label(four, "withdrawn")
    kept.run()
    back = [(row["label"], row["status"]) for row in kept.rows("detections") if row["clip_id"] == str(four.clip_id)]
    assert back == [("mid", HEARD)]


def test_an_archive_that_reads_all_again_is_the_same(stack: Stack, story: Story, tmp_path: Path) -> None:
    """Its ledger lost; no row is there twice."""
    kept = Kept(stack.settings, tmp_path)
    event = story.heard(0, 2000.0)
    story.guide(event, "right", heard=("mid",))
    kept.run()
    before = {table: kept.rows(table) for table in ("clips", "detections", "feedback")}
    assert any(row["clip_id"] == str(event.clip_id) for row in before["detections"])
    (tmp_path / "archive.sqlite").unlink()
    kept.run()
    assert {table: kept.rows(table) for table in before} == before
