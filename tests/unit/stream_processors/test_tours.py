"""What becomes of a record of a tour, whatever it holds and whatever is away: by a fake of the broker."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import quote
from uuid import uuid5

import httpx
import pytest
from aiokafka.errors import KafkaTimeoutError, RequestTimedOutError

from soundscape.errors import Broken, Unavailable
from soundscape.events import NAMESPACE, ClipAnalysed, Event, FeedbackGiven, Place, Stages, TourMoved, TourSummed
from soundscape.health import serve_health
from soundscape.metrics import TOURS_OPEN, TOURS_PASSED_OVER, UNREADABLE
from soundscape.settings import Settings
from soundscape.testing import free_base
from soundscape.topics import PREDICTIONS, TOUR_ROWS, TOURS
from soundscape.tour_rows import KINDS, Changed, row_key
from soundscape.wire import decode, encode
from stream_processors import tour_outbox
from stream_processors.tour_outbox import Outbox
from stream_processors.tours import GROUP, TOPICS, Tours

NOW = datetime.now(UTC)
CLIP = uuid5(NAMESPACE, "clip")
PLACE = Place(topic="clips", partition=0, offset=0)


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tries follow each other at once."""
    monkeypatch.setattr(tour_outbox, "RETRY_S", (0.0,))


class FakeProducer:
    """Takes what it is given, unless told what to raise; keeps it in order."""

    def __init__(self) -> None:
        self.taken: list[tuple[str, bytes, bytes | None, int | None, Any]] = []
        self.raising: list[Exception] = []

    async def send_and_wait(
        self, topic: str, key: bytes, value: bytes | None, partition: int | None, timestamp: None, headers: Any
    ) -> None:
        """As Faust's."""
        await asyncio.sleep(0)
        if self.raising:
            raise self.raising.pop(0)
        self.taken.append((topic, key, value, partition, headers))

    def key_partition(self, topic: str, key: bytes) -> Any:
        """As Faust's."""
        return Place(topic=topic, partition=len(key), offset=0)

    def rows(self) -> dict[bytes, Any]:
        """What the changelog says."""
        said = {key: value for topic, key, value, _, _ in self.taken if topic == TOUR_ROWS.name}
        return {key: json.loads(value) for key, value in said.items() if value is not None}

    def tours(self) -> list[TourSummed]:
        """What `tours` says."""
        return [decode(TourSummed, headers, value) for topic, _, value, _, headers in self.taken if topic == TOURS.name]


@pytest.fixture
def producer() -> FakeProducer:
    """A broker's door."""
    return FakeProducer()


@pytest.fixture
async def tours(tmp_path: Path, producer: FakeProducer, monkeypatch: pytest.MonkeyPatch) -> Tours:
    """The process, without its worker."""
    made = Tours(Settings(data_dir=tmp_path))
    monkeypatch.setattr(made.app, "_producer", producer)
    made._sites.ready.set()
    return made


def moved(**fields: Any) -> TourMoved:
    """Tour `t` starts."""
    return TourMoved(**({"tour_id": "t", "site": "s", "what": "started", "by": "ana", "at": NOW} | fields))


def answered(**fields: Any) -> ClipAnalysed:
    """A clip in which nothing was heard."""
    said: dict[str, Any] = {
        "clip_id": CLIP, "stream": "t", "site": "s", "tour_id": "t", "recorded_at": NOW, "place": PLACE, "release": "r1",
        "release_digest": "d", "generation": 1, "feature_fingerprints": (), "labels": (), "windows": (), "detections": (),
        "stages": Stages(published=NOW, received=NOW, decoded=NOW, features=NOW, inferred=NOW, predicted=NOW),
    }  # fmt: skip
    return ClipAnalysed(**(said | fields))


def feedback(number: int, **fields: Any) -> FeedbackGiven:
    """A guide's `right`."""
    said: dict[str, Any] = {
        "feedback_id": f"f-{number}", "clip_id": CLIP, "stream": "t", "site": "s", "tour_id": "t", "verdict": "right", "release": "r1",
        "clip_place": PLACE, "answer_place": PLACE, "by": "ana", "given_at": NOW,
    }  # fmt: skip
    return FeedbackGiven(**(said | fields))


async def give(tours: Tours, event: Event, offset: int = 0, partition: int = 3) -> None:
    """Hand the process a record."""
    topic = next(name for name, kind in KINDS.items() if isinstance(event, kind))
    message = encode(event)
    await tours.handle(Place(topic=topic, partition=partition, offset=offset), message.key, message.headers, message.value)


async def test_a_record_is_done_when_its_rows_and_its_summary_are_acknowledged(tours: Tours, producer: FakeProducer) -> None:
    await give(tours, moved())
    await give(tours, answered())
    assert [(topic, key, partition) for topic, key, _, partition, _ in producer.taken] == [
        (TOUR_ROWS.name, row_key("t", ""), 3), (TOURS.name, b"t", None),
        (TOUR_ROWS.name, row_key("t", ""), 3), (TOURS.name, b"t", None),
    ]  # fmt: skip
    assert [(one.tour_id, one.site, one.clips) for one in producer.tours()] == [("t", "s", 0), ("t", "s", 1)]
    assert producer.rows() == dict(tours._table.data.items()), "the changelog is the table"


async def test_the_changelog_is_the_one_that_is_declared(tours: Tours) -> None:
    assert tours._table.changelog_topic_name == TOUR_ROWS.name
    assert {topic.partitions for topic in TOPICS} == {TOUR_ROWS.partitions}, "its rows lie where their records do"
    assert {topic.name for topic in TOPICS} == set(KINDS)
    assert all(GROUP in topic.readers for topic in TOPICS)


async def test_what_the_broker_does_not_take_is_tried_until_it_does(tours: Tours, producer: FakeProducer) -> None:
    producer.raising = [KafkaTimeoutError(), RequestTimedOutError()]
    await give(tours, moved())
    producer.raising = [KafkaTimeoutError(), OSError()]
    await give(tours, answered())
    assert [one.clips for one in producer.tours()] == [0, 1]
    assert producer.rows() == dict(tours._table.data.items())
    assert tours.waiting() == ""


async def test_an_unexpected_error_ends_the_process_before_the_record_is_acknowledged(tours: Tours, producer: FakeProducer) -> None:
    producer.raising = [RuntimeError("the producer was closed")]
    with pytest.raises(Broken, match="closed"):
        await give(tours, moved())
    await give(tours, answered())
    assert producer.rows() == dict(tours._table.data.items()), "what was not said is not forgotten"


def grown(metric: Any, *labels: str) -> Callable[[], float]:
    """By how much a counter has grown since."""
    before = metric.labels(*labels)._value.get()
    return lambda: metric.labels(*labels)._value.get() - before


async def test_what_does_not_decode_is_counted_and_passed_over(tours: Tours, producer: FakeProducer) -> None:
    growth = grown(UNREADABLE, "tours-0", PREDICTIONS.name)
    message = encode(answered())
    await tours.handle(Place(topic=PREDICTIONS.name, partition=0, offset=0), message.key, message.headers, b"{")
    await tours.handle(Place(topic=PREDICTIONS.name, partition=0, offset=1), b"t", [], None)
    assert (growth(), producer.taken) == (2, [])


async def test_what_no_row_takes_is_counted_and_passed_over(tours: Tours, producer: FakeProducer) -> None:
    growth = grown(TOURS_PASSED_OVER, PREDICTIONS.name)
    await give(tours, moved())
    await give(tours, answered(site="elsewhere"))
    old = NOW - timedelta(days=tours.settings.tour_days + 1)
    stages = Stages(published=old, received=old, decoded=old, features=old, inferred=old, predicted=old)
    await give(tours, answered(stream="gone", tour_id="gone", stages=stages))
    assert growth() == 2
    assert [one.clips for one in producer.tours()] == [0]


async def test_a_tour_that_cannot_be_said_holds_up_no_other(tours: Tours, producer: FakeProducer) -> None:
    growth = grown(TOURS_PASSED_OVER, TOURS.name)
    tours._table.data[row_key("t", "owl")] = {"named": 0, "names": [], "taxon": "Aves", "clips": {"no": "row"}}
    tours._rows.index()
    await give(tours, moved())
    await give(tours, moved(tour_id="other"))
    assert growth() == 1
    assert [one.tour_id for one in producer.tours()] == ["other"]


async def test_a_tour_is_open_until_it_ends_also_after_a_restart(
    tours: Tours, producer: FakeProducer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def open_tours() -> float:
        return float(TOURS_OPEN._value.get())

    for name in ("t", "other"):
        await give(tours, moved(tour_id=name))
    assert open_tours() == 2
    await give(tours, moved(what="ended"))
    assert open_tours() == 1
    tours._open.clear()
    flow: list[str] = []
    monkeypatch.setattr(tours.app, "_consumer", SimpleNamespace(stop_flow=lambda: flow.append("stopped")))
    await tours._recover()
    assert flow == ["stopped"], "what is read before Faust resumes the flow would be forgotten"
    assert open_tours() == 1
    assert not tours.not_yet()["recovering rows"]


async def test_the_door_tells_the_rows_of_a_tour_once_they_are_recovered(
    tours: Tours, producer: FakeProducer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of no other tour, and nothing while the changelog is read."""
    await give(tours, moved(tour_id="a b ñ"))
    await give(tours, moved())
    assert tours.tell("/rows/a b ñ") is None
    monkeypatch.setattr(tours.app, "_consumer", SimpleNamespace(stop_flow=lambda: None))
    await tours._recover()
    monkeypatch.setattr(tours.app, "_consumer", None)
    port = free_base()
    serve_health(port, tours.health, tours.tell)

    def asked(path: str) -> httpx.Response:
        return httpx.get(f"http://127.0.0.1:{port}{path}")

    assert asked(f"/rows/{quote('a b ñ', safe='')}").json() == {"": producer.rows()[row_key("a b ñ", "")]}
    assert "soundscape_tours_open" in asked("/rows/other").text and asked("/healthz").json()["healthy"] is False


async def test_rows_without_news_are_dropped_and_their_last_summary_stays(tours: Tours, producer: FakeProducer) -> None:
    await give(tours, moved())
    await give(tours, moved(tour_id="other", at=NOW + timedelta(days=2)))
    said = producer.tours()
    await tours.drop_old((NOW + timedelta(days=tours.settings.tour_days + 1)).timestamp())
    assert set(producer.rows()) == set(tours._table.data) == {row_key("other", "")}
    assert producer.taken[-1][:4] == (TOUR_ROWS.name, row_key("t", ""), None, 1), "in the partition of its stream"
    assert producer.tours() == said


async def test_what_comes_while_a_batch_is_under_way_makes_one_batch(tours: Tours, producer: FakeProducer) -> None:
    await give(tours, answered())
    before = len(producer.taken)
    await asyncio.gather(*(give(tours, feedback(n), n) for n in range(20)))
    assert producer.tours()[-1].feedback == 20
    assert len(producer.taken) - before == 4, "the first alone, the others together: each a row and a summary"


async def test_a_newer_row_is_never_overtaken_by_an_older_one_that_is_tried_again() -> None:
    said: list[bytes | None] = []
    failed, back = asyncio.Event(), asyncio.Event()

    async def put(key: bytes, row: bytes | None, partition: int) -> None:
        await asyncio.sleep(0)
        if not back.is_set():
            failed.set()
            raise Unavailable("away")
        said.append(row)

    async def say(tour: str) -> None:
        said.append(tour.encode())

    outbox = Outbox(put, say)
    first = asyncio.create_task(outbox.say({b"k": Changed(b"1")}, ["t"], 0))
    await failed.wait()
    second = asyncio.create_task(outbox.say({b"k": Changed(b"2")}, ["t"], 0))
    await asyncio.sleep(0)
    assert outbox.waiting
    back.set()
    await asyncio.gather(first, second)
    assert said == [b"1", b"t", b"2", b"t"]
    assert outbox.waiting == ""


async def test_a_batch_that_is_cut_off_is_said_by_the_next() -> None:
    said: list[bytes | None] = []
    reached, back = asyncio.Event(), asyncio.Event()

    async def put(key: bytes, row: bytes | None, partition: int) -> None:
        reached.set()
        await back.wait()
        said.append(row)

    async def say(tour: str) -> None:
        said.append(tour.encode())

    outbox = Outbox(put, say)
    first = asyncio.create_task(outbox.say({b"k": Changed(b"1"), b"l": Changed(b"1")}, ["t"], 0))
    await reached.wait()
    first.cancel()
    back.set()
    await outbox.say({b"k": Changed(b"2")}, ["u"], 0)
    assert first.cancelled()
    assert said == [b"2", b"1", b"t", b"u"]


async def test_a_row_that_gave_a_judgement_away_is_written_when_the_one_that_has_it_is() -> None:
    """Also where the same row changes again, or the batch is cut off, before it is written."""
    said: list[bytes | None] = []
    reached, back = asyncio.Event(), asyncio.Event()

    async def put(key: bytes, row: bytes | None, partition: int) -> None:
        reached.set()
        await back.wait()
        said.append(key)

    async def say(tour: str) -> None:
        """Nobody asks for it here."""

    outbox = Outbox(put, say)
    first = asyncio.create_task(outbox.say({b"gave": Changed(None, last=True), b"has": Changed(b"1")}, ["t"], 0))
    await reached.wait()
    first.cancel()
    later = [asyncio.create_task(outbox.say({key: Changed(row)}, ["t"], 0)) for key, row in ((b"gave", b"2"), (b"new", b"3"))]
    back.set()
    await asyncio.gather(*later)
    assert said == [b"has", b"new", b"gave"]
