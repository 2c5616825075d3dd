"""Tours recounted from the topics alone, against what `tours` says: by a log in memory."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple
from uuid import uuid5

import pytest

from consumers import tour_recount
from consumers.tour_recount import differences, miscounts, read_summaries, recount
from soundscape.errors import Unavailable
from soundscape.events import NAMESPACE, ClipAnalysed, Event, FeedbackGiven, Place, Stages, TourMoved, TourSummed
from soundscape.settings import Settings
from soundscape.topics import FEEDBACK, PREDICTIONS, TOUR_EVENTS, TOURS, Topic
from soundscape.wire import encode

NOW = datetime.now(UTC)
PLACE = Place(topic="clips", partition=0, offset=0)


class Record(NamedTuple):
    """As kafka-python's."""

    topic: str
    partition: int
    offset: int
    headers: Any
    value: bytes | None


class Topics:
    """What lies on each topic, in one partition."""

    def __init__(self) -> None:
        self.records: dict[str, list[Record]] = defaultdict(list)
        self.behind = 0

    def say(self, topic: Topic, event: Event) -> None:
        """Add an event."""
        message, there = encode(event), self.records[topic.name]
        there.append(Record(topic.name, 0, len(there), message.headers, message.value))

    def read(self, settings: Settings, topic: str) -> Iterator[Record]:
        """All of a topic."""
        yield from self.records[topic]


@pytest.fixture
def topics(monkeypatch: pytest.MonkeyPatch) -> Topics:
    """The log."""
    made = Topics()
    monkeypatch.setattr(tour_recount, "_records", made.read)
    monkeypatch.setattr(tour_recount, "read_states", lambda settings: {})
    monkeypatch.setattr(tour_recount, "new_admin", lambda settings: type("Admin", (), {"close": lambda self: None})())
    monkeypatch.setattr(tour_recount, "backlog", lambda admin, topic, group: made.behind)
    return made


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """A stack's settings."""
    return Settings(data_dir=tmp_path)


def moved(tour: str = "t", at: datetime = NOW) -> TourMoved:
    """A tour starts."""
    return TourMoved(tour_id=tour, site="s", what="started", by="ana", at=at)


def answered(number: int, **fields: Any) -> ClipAnalysed:
    """A clip in which nothing was heard."""
    said: dict[str, Any] = {
        "clip_id": uuid5(NAMESPACE, str(number)), "stream": "t", "site": "s", "tour_id": "t", "recorded_at": NOW, "place": PLACE,
        "release": "r1", "release_digest": "d", "generation": 1, "feature_fingerprints": (), "labels": (), "windows": (),
        "detections": (), "stages": Stages(published=NOW, received=NOW, decoded=NOW, features=NOW, inferred=NOW, predicted=NOW),
    }  # fmt: skip
    return ClipAnalysed(**(said | fields))


def feedback() -> FeedbackGiven:
    """A guide heard an owl."""
    return FeedbackGiven(
        feedback_id="f", clip_id=uuid5(NAMESPACE, "0"), stream="t", site="s", tour_id="t", verdict="species", labels=("owl",),
        release="r1", clip_place=PLACE, answer_place=PLACE, by="ana", given_at=NOW,
    )  # fmt: skip


def test_a_tour_is_recounted_and_what_no_row_takes_or_does_not_decode_is_left_out(topics: Topics, settings: Settings) -> None:
    for event in (answered(0), answered(1), answered(2, site="far")):
        topics.say(PREDICTIONS, event)
    topics.say(FEEDBACK, feedback())
    topics.say(TOUR_EVENTS, moved())
    topics.records[FEEDBACK.name].append(Record(FEEDBACK.name, 0, 1, [], b"{"))
    (found,) = recount(settings).values()
    assert (found.tour_id, found.clips, found.feedback, found.species, found.by) == ("t", 2, 1, ("owl",), "ana")


def test_a_tour_whose_rows_the_stream_drops_is_not_recounted(topics: Topics, settings: Settings) -> None:
    topics.say(TOUR_EVENTS, moved("old", NOW - timedelta(days=settings.tour_days + 1)))
    topics.say(TOUR_EVENTS, moved("young", NOW - timedelta(days=settings.tour_days - 1)))
    assert set(recount(settings)) == {"young"}


def test_the_latest_summary_counts(topics: Topics, settings: Settings) -> None:
    for clips in (1, 2):
        topics.say(TOURS, TourSummed(tour_id="t", site="s", species=(), clips=clips, at=NOW))
    topics.records[TOURS.name].append(Record(TOURS.name, 0, 2, [], None))
    assert {tour: one.clips for tour, one in read_summaries(settings).items()} == {"t": 2}


def test_what_is_as_recounted_does_not_differ_whenever_it_was_summed(topics: Topics, settings: Settings) -> None:
    topics.say(PREDICTIONS, answered(0))
    topics.say(FEEDBACK, feedback())
    topics.say(TOURS, recount(settings)["t"].model_copy(update={"at": NOW - timedelta(days=1)}))
    assert differences(settings, 0.0) == (1, [])


def test_each_tour_that_differs_is_said(topics: Topics, settings: Settings) -> None:
    for n in range(2):
        topics.say(PREDICTIONS, answered(n))
    topics.say(TOURS, recount(settings)["t"].model_copy(update={"clips": 1}))
    topics.say(TOUR_EVENTS, moved("unsaid"))
    topics.say(TOURS, TourSummed(tour_id="invented", site="s", species=(), clips=1, at=NOW))
    topics.say(TOURS, TourSummed(tour_id="long ago", site="s", species=(), clips=1, at=NOW - timedelta(days=settings.tour_days + 1)))
    count, lines = differences(settings, 0.0)
    assert count == 3
    assert lines == [
        "invented: a summary, but the log has nothing of it", "t: clips is 1, the log says 2", "unsaid: no summary, but the log has it",
    ]  # fmt: skip


def test_a_stream_that_does_not_catch_up_is_no_difference(topics: Topics, settings: Settings) -> None:
    topics.behind = 2
    with pytest.raises(Unavailable, match="behind"):
        differences(settings, 0.0)


@pytest.mark.parametrize("held", [1, 3])
def test_a_tour_that_misses_a_clip_or_holds_one_twice_is_miscounted(topics: Topics, settings: Settings, held: int) -> None:
    for n in range(2):
        topics.say(PREDICTIONS, answered(n))
    topics.say(TOURS, recount(settings)["t"].model_copy(update={"clips": held}))
    topics.say(TOURS, TourSummed(tour_id="older than the log", site="s", species=(), clips=1, at=NOW))
    assert miscounts(settings, 0.0) == [f"t: its summary holds {held} clips, the log 2"]
    topics.say(TOURS, recount(settings)["t"])
    assert miscounts(settings, 0.0) == []


def test_a_tour_that_was_never_summed_misses_its_clips(topics: Topics, settings: Settings) -> None:
    topics.say(PREDICTIONS, answered(0))
    topics.say(TOUR_EVENTS, moved("without clips"))
    assert miscounts(settings, 0.0) == ["t: its summary holds 0 clips, the log 1"]


def test_what_the_log_says_of_a_tour_while_it_is_compared_is_not_held_against_it(
    topics: Topics, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One clip came before the summaries were read and one after: the summary is as neither recount says, and all the same right."""
    topics.say(PREDICTIONS, answered(0))
    topics.say(TOURS, recount(settings)["t"].model_copy(update={"clips": 2}))
    read = tour_recount.read_summaries

    def meanwhile(of: Settings) -> dict[str, TourSummed]:
        said = read(of)
        for n in (1, 2):
            topics.say(PREDICTIONS, answered(n))
        return said

    monkeypatch.setattr(tour_recount, "read_summaries", meanwhile)
    assert differences(settings, 0.0)[1] == []
