"""The archive's tables: the last word on everything, once, whatever was read twice and wherever it was killed."""

from __future__ import annotations

import errno
import sqlite3
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid5

import pyarrow.parquet as pq
import pytest

from consumers.archive import Archive, Batch
from consumers.archive_ledger import Ledger
from consumers.archive_rows import CONFIRMED, HEARD, REJECTED, SAID, answer_of, corrected, tour_day
from consumers.archive_tables import day_path, read_day
from soundscape.events import NAMESPACE, ClipAnalysed, ClipLabelled, FeedbackGiven, Place, TourSpecies, TourSummed
from soundscape.wire import decode

DAY = date(2026, 3, 1)
AT = datetime(2026, 3, 2, 9, tzinfo=UTC)
PLACE = Place(topic="predictions", partition=0, offset=0)


def cid(name: str) -> UUID:
    """The id of the clip of that name, as tests/unit/consumers/conftest.py has it."""
    return uuid5(NAMESPACE, name)


def label(name: str, verdict: str, *labels: str, by: str = "ana", start_s: float = 0.0, **fields: Any) -> ClipLabelled:
    """A labeler's word on a window."""
    said: dict[str, Any] = {
        "label_id": f"{by}-{name}-{start_s:g}", "clip_id": cid(name), "stream": "REC", "site": "s", "start_s": start_s,
        "end_s": start_s + 5, "verdict": verdict, "labels": labels, "by": by, "provenance": "page", "labelled_at": AT,
    }  # fmt: skip
    return ClipLabelled(**(said | fields))


def told(name: str, verdict: str, *labels: str, by: str = "guide", heard: tuple[str, ...] = (), **fields: Any) -> FeedbackGiven:
    """A guide's word on a clip."""
    said: dict[str, Any] = {
        "feedback_id": f"{by}-{name}", "clip_id": cid(name), "stream": "REC", "site": "s", "verdict": verdict, "labels": labels,
        "heard": heard, "release": "r1", "clip_place": PLACE, "answer_place": PLACE, "by": by, "given_at": AT,
    }  # fmt: skip
    return FeedbackGiven(**(said | fields))


def summed(tour: str, clips: int, **fields: Any) -> TourSummed:
    """A tour's summary."""
    return TourSummed(**({"tour_id": tour, "site": "s", "species": ("owl",), "clips": clips, "at": AT} | fields))


class Kept:
    """An archive in a folder, fed with records."""

    def __init__(self, folder: Path, writer: Any) -> None:
        self.folder, self.ledger, self._writer = folder / "archive", Ledger(folder / "state" / "archive.sqlite"), writer
        self.archive = Archive(self.folder, self.ledger)

    def batch(self, *said: Any) -> Batch:
        """Records or events as a batch."""
        topics: dict[Any, str] = {FeedbackGiven: "feedback", ClipLabelled: "labels", TourSummed: "tours"}
        batch = Batch()
        for one in said:
            record = self._writer.put(topics[type(one)], one) if type(one) in topics else one
            batch.take(f"{record.topic}:{record.partition}", [record])
        return batch

    def put(self, *said: Any) -> Batch:
        """Write them, and return the batch."""
        batch = self.batch(*said)
        self.archive.write(batch)
        return batch

    def rows(self, table: str) -> list[dict[str, Any]]:
        """All rows of a table."""
        days = [date.fromisoformat(path.name.removeprefix("day=")) for path in sorted((self.folder / table).glob("day=*"))]
        return [row for day in days for row in read_day(self.folder, table, day)]

    def status(self) -> dict[str, str]:
        """Status by label, of all detections."""
        return {row["label"]: row["status"] for row in self.rows("detections")}

    def bytes(self) -> dict[str, list[dict[str, Any]]]:
        """Everything."""
        return {table: self.rows(table) for table in ("clips", "detections", "feedback", "labels", "tours")}


@pytest.fixture
def kept(tmp_path: Path, writer: Any) -> Iterator[Kept]:
    """An empty archive."""
    made = Kept(tmp_path, writer)
    yield made
    made.ledger.close()


def test_answers_are_kept_by_day_and_the_latest_of_a_clip_stands(kept: Kept, writer: Any) -> None:
    early = datetime(2026, 2, 27, 6, tzinfo=UTC)
    kept.put(writer.answer("a", ("owl",)), writer.answer("b", ("frog", "owl"), recorded_at=early), writer.answer("c"))
    kept.put(writer.answer("a", ("frog",), release="r2"), writer.answer("probe", ("owl",), probe=True))
    assert {path.name for path in (kept.folder / "clips").iterdir()} == {"day=2026-02-27", "day=2026-03-01"}
    assert [(row["clip_id"], row["label"], row["release"]) for row in kept.rows("detections")] == [
        (str(cid("b")), "frog", "r1"), (str(cid("b")), "owl", "r1"), (str(cid("a")), "frog", "r2"),
    ]  # fmt: skip
    assert {row["clip_id"]: (row["seconds"], row["answer"]) for row in kept.rows("clips")} == {
        str(cid("b")): (10.0, "predictions:0:1"), str(cid("c")): (10.0, "predictions:0:2"), str(cid("a")): (10.0, "predictions:0:3"),
    }  # fmt: skip
    kept.put(writer.answer("a"))
    assert not day_path(kept.folder, "detections", DAY).exists(), "nothing is heard on that day any more"


def test_a_clip_that_changes_its_day_leaves_the_old_one(kept: Kept, writer: Any) -> None:
    kept.put(writer.answer("a", ("owl",)))
    kept.put(writer.answer("a", ("owl",), published=datetime(2026, 3, 5, tzinfo=UTC)))
    assert len(kept.rows("clips")) == len(kept.rows("detections")) == 1
    assert not day_path(kept.folder, "clips", DAY).exists()


def test_files_are_plain_parquet_with_moments_and_names(kept: Kept, writer: Any) -> None:
    """Any reader of Parquet sees the days as a column."""
    species = TourSpecies(label="owl", status="confirmed", clips=2, windows=3, confidence=0.9)
    kept.put(writer.answer("a", ("owl",)), summed("tour", 3, heard=(species,)))
    table = pq.read_table(kept.folder / "detections").to_pylist()
    assert [(str(row["day"]), row["label"], row["scientific"], row["status"]) for row in table] == [("2026-03-01", "owl", "owl", HEARD)]
    assert table[0]["published_at"] == datetime(2026, 3, 1, 23, 30, tzinfo=UTC)
    (tour,) = kept.rows("tours")
    assert (tour["tour_id"], tour["clips"], tour["heard"][0]["label"], tour["heard"][0]["windows"]) == ("tour", 3, "owl", 3)


@pytest.mark.parametrize(
    ("words", "status"),
    [
        ([], {"owl": HEARD, "frog": HEARD}),
        ([told("a", "right", heard=("owl",))], {"owl": CONFIRMED, "frog": HEARD}),
        ([told("a", "wrong", heard=("owl",))], {"owl": REJECTED, "frog": HEARD}),
        ([told("a", "wrong")], {"owl": REJECTED, "frog": REJECTED}),
        ([told("a", "species", "toad", heard=("owl",))], {"owl": REJECTED, "frog": HEARD, "toad": SAID}),
        ([told("a", "unknown", heard=("owl",))], {"owl": HEARD, "frog": HEARD}),
        ([told("a", "wrong", heard=("owl",)), told("a", "withdrawn")], {"owl": HEARD, "frog": HEARD}),
        (
            [told("a", "wrong", heard=("owl",), by="g"), told("a", "right", heard=("owl",), by="h", given_at=AT + timedelta(hours=1))],
            {"owl": CONFIRMED, "frog": HEARD},
        ),
        ([label("a", "species", "owl")], {"owl": CONFIRMED, "frog": REJECTED}),
        ([label("a", "nothing")], {"owl": REJECTED, "frog": REJECTED}),
        ([label("a", "unknown")], {"owl": HEARD, "frog": HEARD}),
        ([label("a", "species", "toad", start_s=5.0)], {"owl": HEARD, "frog": HEARD, "toad": SAID}),
        ([label("a", "species", "owl"), label("a", "nothing", by="ben", review=2)], {"owl": HEARD, "frog": HEARD}),
        ([label("a", "nothing"), told("a", "species", "toad", heard=("owl",))], {"owl": REJECTED, "frog": REJECTED}),
    ],
)
def test_people_correct_what_was_heard_in_either_order(
    kept: Kept, writer: Any, tmp_path: Path, words: list[Any], status: dict[str, str]
) -> None:
    """Both heard in the first window. What people said may be read before the answer, and stands when another release answers."""
    kept.put(writer.answer("a", ("frog", "owl")), writer.answer("b", ("frog",)))
    kept.put(*words)
    mine = {row["label"]: row["status"] for row in kept.rows("detections") if row["clip_id"] == str(cid("a"))}
    assert mine == status
    assert [row["status"] for row in kept.rows("detections") if row["clip_id"] == str(cid("b"))] == [HEARD], "others are left alone"
    kept.put(writer.answer("a", ("frog", "owl"), release="r2"))
    assert {row["label"]: row["status"] for row in kept.rows("detections") if row["clip_id"] == str(cid("a"))} == status
    other = Kept(tmp_path / "other", writer)
    other.put(*words)
    other.put(writer.answer("a", ("frog", "owl")))
    assert other.status() == status
    other.ledger.close()


def test_a_detection_of_two_windows_is_rejected_when_both_are_judged(writer: Any) -> None:
    event = decode(ClipAnalysed, (record := writer.answer("a", ("owl",))).headers, record.value)
    long = event.model_copy(update={"detections": (event.detections[0].model_copy(update={"end_s": 10.0}),)})
    day, clip, rows = answer_of(long, "predictions:0:0")
    half = [label("a", "nothing")]
    assert day == DAY
    assert [row["status"] for row in corrected(clip, rows, half, [])] == [HEARD]
    assert [row["status"] for row in corrected(clip, rows, [*half, label("a", "nothing", start_s=5.0)], [])] == [REJECTED]
    assert [row["status"] for row in corrected(clip, rows, [*half, label("a", "species", "owl", start_s=5.0)], [])] == [CONFIRMED]


def test_feedback_and_labels_are_kept_as_they_stand(kept: Kept) -> None:
    kept.put(told("a", "wrong"), told("b", "right"), label("a", "species", "owl"), label("b", "nothing"))
    later = AT + timedelta(days=3)
    kept.put(told("a", "right", given_at=later), told("b", "withdrawn"), label("a", "withdrawn"))
    assert [(row["feedback_id"], row["verdict"], row["given_at"]) for row in kept.rows("feedback")] == [("guide-a", "right", later)]
    assert [row["label_id"] for row in kept.rows("labels")] == ["ana-b-0"]


def test_a_tour_has_one_row_in_the_day_it_began(kept: Kept) -> None:
    start = datetime(2026, 3, 1, 6, tzinfo=UTC)
    kept.put(summed("t", 1))
    kept.put(summed("t", 2, started_at=start), summed("REC@2026-02-03", 5))
    assert [(row["tour_id"], row["clips"]) for row in kept.rows("tours")] == [("REC@2026-02-03", 5), ("t", 2)]
    assert tour_day(summed("x@2026-99-99", 1)) == AT.date()


def test_a_denied_clip_is_in_no_table_until_the_voice_was_none(kept: Kept, writer: Any) -> None:
    kept.put(writer.answer("a", ("owl",)), writer.answer("b", ("owl",)), told("a", "right", heard=("owl",)))
    before = kept.bytes()
    kept.put(label("a", "speech"))
    for table, rows in kept.bytes().items():
        assert str(cid("a")) not in {row.get("clip_id") for row in rows}, table
    assert len(kept.rows("detections")) == 1
    kept.put(writer.answer("a", ("frog",), release="r2"))
    assert len(kept.rows("clips")) == 1, "a new answer brings it back no more than the old one"
    kept.put(label("a", "withdrawn"))
    back = [(row["label"], row["status"]) for row in kept.rows("detections") if row["clip_id"] == str(cid("a"))]
    assert back == [("frog", HEARD), ("owl", SAID)], "the later release's answer, and the guide's word on it"
    kept.put(writer.answer("a", ("owl",)))
    after = kept.bytes()
    for rows in (*before.values(), *after.values()):
        for row in rows:
            row.pop("answer", None)
    assert after == before


def test_a_clip_denied_and_answered_in_one_batch_never_appears(kept: Kept, writer: Any) -> None:
    kept.put(label("a", "speech"), writer.answer("a", ("owl",)))
    assert kept.rows("clips") == kept.rows("detections") == kept.rows("labels") == []


def _story(kept: Kept, writer: Any) -> list[Batch]:
    """Four batches that touch everything."""
    return [
        kept.batch(writer.answer("a", ("owl",)), writer.answer("b", ("frog",)), summed("t", 1)),
        kept.batch(told("a", "wrong", heard=("owl",)), label("b", "species", "toad"), writer.answer("c", ("owl",)), summed("t", 2)),
        kept.batch(label("c", "speech"), told("a", "right", heard=("owl",)), writer.answer("b", ("frog", "owl"), release="r2")),
        kept.batch(label("c", "withdrawn"), label("b", "nothing", by="ben", review=2), summed("t", 3)),
    ]


@pytest.mark.parametrize("killed", range(4))
def test_a_kill_between_files_and_ledger_doubles_and_loses_nothing(
    kept: Kept, writer: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, killed: int
) -> None:
    """After the files of a batch are written and before its positions are; the batch is read again by a process of its own."""
    story = _story(kept, writer)
    for batch in story:
        kept.archive.write(batch)
    whole, positions = kept.bytes(), kept.ledger.positions()
    again = Kept(tmp_path / "again", writer)
    for n, batch in enumerate(story):
        if n == killed:
            before = again.ledger.positions()

            def die(self: Ledger, positions: dict[str, int]) -> None:
                raise KeyboardInterrupt

            with monkeypatch.context() as patch:
                patch.setattr(Ledger, "move", die)
                with pytest.raises(KeyboardInterrupt):
                    again.archive.write(batch)
            assert again.ledger.positions() == before
            again.ledger.close()
            again = Kept(tmp_path / "again", writer)
        again.archive.write(batch)
    assert again.bytes() == whole and again.ledger.positions() == positions
    assert {row["clip_id"] for row in whole["clips"]} == {str(cid(name)) for name in "abc"}, "the withheld clip came back"
    again.ledger.close()


def test_reading_all_again_changes_nothing(kept: Kept, writer: Any, tmp_path: Path) -> None:
    """Also with a ledger that was lost: rows are found again by their keys."""
    story = _story(kept, writer)
    for batch in (*story, *story):
        kept.archive.write(batch)
    whole = kept.bytes()
    kept.ledger.close()
    (tmp_path / "state" / "archive.sqlite").unlink()
    fresh = Kept(tmp_path, writer)
    for batch in story:
        fresh.archive.write(batch)
    assert fresh.bytes() == whole
    assert fresh.ledger.positions() == {"predictions:0": 4, "feedback:0": 2, "labels:0": 4, "tours:0": 3}
    fresh.ledger.close()


def test_a_full_disk_moves_no_position_and_damages_no_file(kept: Kept, writer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    kept.put(writer.answer("a", ("owl",)))
    before, positions = kept.bytes(), kept.ledger.positions()
    batch = kept.batch(writer.answer("a", ("frog",)))

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("consumers.archive_tables.os.fsync", full)
        with pytest.raises(OSError, match="No space"):
            kept.archive.write(batch)
    assert (kept.bytes(), kept.ledger.positions()) == (before, positions)
    assert {path.name for path in kept.folder.rglob("*") if path.is_file()} == {"part-0.parquet"}
    kept.archive.write(batch)
    assert kept.status() == {"frog": HEARD}


def test_a_damaged_file_is_named_and_nothing_moves(kept: Kept, writer: Any) -> None:
    kept.put(writer.answer("a", ("owl",)))
    day_path(kept.folder, "clips", DAY).write_bytes(b"PAR1 no more")
    with pytest.raises(OSError, match="damaged"):
        kept.put(writer.answer("b", ("owl",)))
    assert kept.ledger.positions() == {"predictions:0": 1}


def test_only_the_days_of_a_batch_are_touched(kept: Kept, writer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    for n in range(5):
        kept.put(writer.answer(f"clip {n}", ("owl",), recorded_at=datetime(2026, 2, 1 + n, tzinfo=UTC)))
    touched: set[date] = set()
    def watched(folder: Path, table: str, day: date) -> list[dict[str, Any]]:
        touched.add(day)
        return read_day(folder, table, day)

    monkeypatch.setattr("consumers.archive.read_day", watched)
    kept.put(writer.answer("new", ("owl",), recorded_at=datetime(2026, 2, 3, tzinfo=UTC)), label("clip 3", "nothing"))
    assert touched == {date(2026, 2, 3), date(2026, 2, 4)}


def test_what_does_not_decode_is_passed_over(kept: Kept, writer: Any) -> None:
    kept.put(writer.put("predictions", told("a", "right")), writer.answer("b", ("owl",)))
    assert [row["clip_id"] for row in kept.rows("clips")] == [str(cid("b"))]
    assert kept.ledger.positions() == {"predictions:0": 2}


def test_a_ledger_that_cannot_be_written_is_an_error_to_wait_out(tmp_path: Path) -> None:
    path = tmp_path / "archive.sqlite"
    path.write_bytes(b"this is no database, however long it may be" * 100)
    with pytest.raises(sqlite3.Error):
        Ledger(path)
