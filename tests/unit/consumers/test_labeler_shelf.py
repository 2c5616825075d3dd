"""What the shelf makes of records, in whatever order its own and the log's arrive."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import uuid5

import pytest

from consumers.labeler.log import place_of
from consumers.labeler.shelf import Shelf
from soundscape.errors import Unavailable
from soundscape.events import NAMESPACE, ClipLabelled, ClipSampled, Place
from soundscape.wire import encode

NOW = datetime(2026, 3, 1, 6, tzinfo=UTC)
CLIP = uuid5(NAMESPACE, "clip")


@dataclass
class Record:
    """What a consumer sees."""

    topic: str
    offset: int
    key: bytes | None
    value: bytes | None
    headers: list[tuple[str, bytes]]
    partition: int = 3


def sampled(offset: int, **fields: Any) -> Record:
    """A sample of CLIP."""
    said: dict[str, Any] = {
        "clip_id": CLIP, "stream": "t", "site": "s", "reason": "random", "probability": 0.05, "topic": "clips", "partition": 0,
        "offset": 9, "end_s": 5.0, "sampled_at": NOW, "audio": b"sound",
    }  # fmt: skip
    message = encode(ClipSampled(**(said | fields)))
    return Record("samples", offset, message.key, message.value, message.headers)


def tombstone(offset: int) -> Record:
    """Its end."""
    return Record("samples", offset, str(CLIP).encode(), None, [])


def label(verdict: Any = "nothing", label_id: str = "a") -> ClipLabelled:
    """A label of its first window."""
    return ClipLabelled(
        label_id=label_id, clip_id=CLIP, stream="t", site="s", start_s=0, end_s=5, verdict=verdict, by="ana", provenance="page",
        labelled_at=NOW,
    )  # fmt: skip


def labelled(offset: int, event: ClipLabelled) -> Record:
    """The record of a label."""
    message = encode(event)
    return Record("labels", offset, message.key, message.value, message.headers)


def take(shelf: Shelf, *records: Record) -> None:
    """The shelf takes them in."""
    for record in records:
        shelf.take(f"{record.topic}:{record.partition}", [record])


def test_the_latest_record_of_a_sample_stands_with_all_its_reasons() -> None:
    shelf = Shelf()
    take(shelf, sampled(4), sampled(7, reason="flagged", reasons="random,flagged"))
    (one,) = shelf.samples("s")
    assert one.reasons == ("random", "flagged")
    assert one.stratum == "random"
    assert one.place == Place(topic="samples", partition=3, offset=7)
    assert shelf.samples("elsewhere") == []
    assert shelf.positions == {"samples:3": 8}


def test_a_tombstone_takes_a_sample_away_even_before_its_older_record_is_read_again() -> None:
    shelf = Shelf()
    take(shelf, sampled(4))
    shelf.removed(str(CLIP), 6)  # said by this process
    assert shelf.sample(str(CLIP)) is None
    take(shelf, sampled(5), tombstone(6))
    assert shelf.sample(str(CLIP)) is None
    take(shelf, sampled(7))
    assert shelf.sample(str(CLIP)) is not None


def test_an_older_label_that_is_read_later_changes_nothing() -> None:
    shelf = Shelf()
    shelf.labelled(label("unknown"), 1)  # an edit, said by this process before the log brought the first
    for record in (labelled(0, label("nothing")), labelled(1, label("unknown"))):
        take(shelf, record)
        assert [one.verdict for one in shelf.labels_of(str(CLIP))] == ["unknown"]
    take(shelf, labelled(2, label("withdrawn")))
    assert shelf.labels() == []
    latest = shelf.label("a")
    assert latest is not None and latest.verdict == "withdrawn"


def test_a_denied_clip_is_no_sample() -> None:
    shelf = Shelf()
    take(shelf, sampled(4), labelled(0, label("speech")))
    assert shelf.denied(str(CLIP))
    assert shelf.sample(str(CLIP)) is None
    assert shelf.samples("s") == []
    assert [one.clip_id for one in shelf.denied_samples()] == [str(CLIP)]
    take(shelf, tombstone(5))
    assert shelf.denied_samples() == []


def test_what_does_not_decode_is_passed_over() -> None:
    shelf = Shelf()
    take(shelf, Record("labels", 0, b"t", b"noise", []), labelled(1, label()), Record("samples", 0, b"x", b"noise", []))
    assert len(shelf.labels("s")) == 1


def test_a_topic_that_was_made_anew_is_read_again_from_its_beginning() -> None:
    shelf = Shelf()
    take(shelf, sampled(4), labelled(3, label()))
    shelf.ready.set()
    with pytest.raises(Unavailable, match="made anew"):
        take(shelf, sampled(0))
    assert not shelf.ready.is_set()
    assert shelf.positions == {}
    assert shelf.samples("s") == []
    assert shelf.label("a") is None


def test_a_sound_that_is_gone_takes_its_own_record_away_only() -> None:
    shelf = Shelf()
    take(shelf, sampled(4))
    (old,) = shelf.samples("s")
    take(shelf, sampled(5))
    shelf.gone(old)
    (fresh,) = shelf.samples("s")
    shelf.gone(fresh)
    assert shelf.samples("s") == []
    take(shelf, sampled(6))
    assert shelf.samples("s") != []


def test_a_length_that_the_record_does_not_say_is_learned() -> None:
    shelf = Shelf()
    take(shelf, sampled(4, end_s=None, start_s=5.0))
    (one,) = shelf.samples("s")
    assert one.windows == ((5.0, 10.0),)
    shelf.measured(one, 10.02)
    (known,) = shelf.samples("s")
    assert known.windows == ((5.0, 10.0), (10.0, 15.0))


NO_PLACES = (None, "", "predictions", "predictions:1", "predictions:1:x", "clips:1:2", "predictions:99:1", "predictions:-1:1")


@pytest.mark.parametrize("text", NO_PLACES)
def test_a_place_that_is_none_is_none(text: str | None) -> None:
    assert place_of(text) is None


def test_a_place_on_predictions_is_read() -> None:
    assert place_of("predictions:3:14") == Place(topic="predictions", partition=3, offset=14)
