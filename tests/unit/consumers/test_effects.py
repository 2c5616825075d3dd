"""What the board does with an event."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from typing import Any

from consumers.effects import changes_of, merged
from soundscape.board import LATEST, counts_key
from soundscape.wire import Message

Id = Callable[[str], str]


def test_an_accepted_answered_and_dead_clip_has_its_three_places(writer: Any, clip_id: Id) -> None:
    came = writer.clip("one", topic="clips")
    fields = changes_of([came]).fields | {}
    assert fields[clip_id("one")] == {"site": "s", "stream": "REC", "lane": "live", "accepted": "clips:0:0"}
    assert changes_of([writer.answer("one")]).fields[clip_id("one")]["predicted"] == "predictions:0:0"
    died = changes_of([writer.death(came)]).fields[clip_id("one")]
    assert (died["dead"], died["reason"], died["lane"]) == ("dead-letters:0:0", "not-audio", "live")


def test_the_last_answer_of_a_batch_stands(writer: Any, clip_id: Id) -> None:
    changes = changes_of([writer.answer("one", ("frog",)), writer.answer("one", ("owl",), release="r2")])
    assert changes.counts == {clip_id("one"): frozenset({counts_key("s", "2026-03-01T23", "owl")})}
    assert changes.fields[clip_id("one")]["release"] == "r2"
    assert changes.fields[clip_id("one")]["predicted"] == "predictions:0:1"
    assert [json.loads(entry)["label"] for entry in changes.detections["REC"][clip_id("one")]] == ["owl"]


def test_an_answer_without_species_takes_the_clip_out_of_the_counts(writer: Any, clip_id: Id) -> None:
    changes = changes_of([writer.answer("one", ("frog",)), writer.answer("one")])
    assert changes.counts == {clip_id("one"): frozenset()}
    assert changes.detections == {"REC": {clip_id("one"): []}}


def test_probe_clips_are_counted_nowhere(writer: Any) -> None:
    came = writer.clip("probe", probe=True)
    changes = changes_of([came, writer.answer("probe", ("frog",), probe=True), writer.death(came)])
    assert (changes.fields, changes.counts, changes.detections) == ({}, {}, {})


def test_a_record_that_does_not_decode_was_accepted_at_its_place(writer: Any) -> None:
    junk = writer.put("clips", Message(b"k", b"junk", []))
    assert changes_of([junk]).fields == {"clips:0:0": {"lane": "live", "accepted": "clips:0:0"}}
    assert changes_of([writer.death(junk)]).fields["clips:0:0"]["dead"] == "dead-letters:0:0"


def test_an_answer_that_does_not_decode_holds_up_nobody(writer: Any, clip_id: Id) -> None:
    changes = changes_of([writer.put("predictions", Message(b"k", b"junk", [])), writer.answer("one")])
    assert changes.fields.keys() == {clip_id("one")}


def test_the_hour_is_that_of_the_recording_in_utc(writer: Any) -> None:
    local = datetime(2026, 3, 1, 20, 10, tzinfo=timezone(timedelta(hours=-5)))
    (sets,) = changes_of([writer.answer("one", ("frog",), recorded_at=local)]).counts.values()
    assert sets == {counts_key("s", "2026-03-02T01", "frog")}


def _entry(clip: str, minute: int, label: str = "frog") -> str:
    return json.dumps({"clip_id": clip, "at": f"2026-03-01T10:{minute:02}:00+00:00", "start_s": 0.0, "label": label})


def test_the_latest_are_replaced_by_clip_and_newest_first() -> None:
    old = [_entry("b", 2), _entry("a", 1, "owl"), _entry("a", 1)]
    after = merged(old, {"a": [_entry("a", 1, "bat")], "c": [_entry("c", 3)]})
    assert [(json.loads(one)["clip_id"], json.loads(one)["label"]) for one in after] == [("c", "frog"), ("b", "frog"), ("a", "bat")]
    assert merged(after, {"a": [_entry("a", 1, "bat")], "c": [_entry("c", 3)]}) == after


def test_the_latest_are_bounded_and_lose_the_oldest() -> None:
    after = merged([_entry(f"old{n}", n % 60) for n in range(LATEST)], {"new": [_entry("new", 59, "zebra")]})
    assert len(after) == LATEST
    assert json.loads(after[0])["clip_id"] == "new"
    assert "old0" not in {json.loads(one)["clip_id"] for one in after}
