"""The deny list: who is on it, who comes off, and that it is read whole."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid5

import pytest

from soundscape.denied import DenyList, read_denied
from soundscape.events import NAMESPACE, ClipLabelled
from soundscape.settings import Settings
from soundscape.wire import encode

CLIP, OTHER = uuid5(NAMESPACE, "clip"), uuid5(NAMESPACE, "other")


def label(label_id: str, verdict: Any, clip: UUID = CLIP) -> ClipLabelled:
    """A label of the clip's first window."""
    return ClipLabelled(
        label_id=label_id, clip_id=clip, stream="tour", site="s", start_s=0, end_s=5, verdict=verdict,
        labels=("frog",) if verdict == "species" else (), by="ana", provenance="page", labelled_at=datetime(2026, 3, 1, tzinfo=UTC),
    )  # fmt: skip


def test_a_clip_is_denied_while_a_speech_label_of_it_stands() -> None:
    denied = DenyList()
    denied.apply(label("a", "species"))
    assert CLIP not in denied
    denied.apply(label("a", "speech"))
    assert CLIP in denied
    assert str(CLIP) in denied
    assert OTHER not in denied
    denied.apply(label("b", "speech"))
    denied.apply(label("a", "withdrawn"))
    assert CLIP in denied, "another label denies it still"
    denied.apply(label("b", "nothing"))
    assert CLIP not in denied
    assert len(denied) == 0


def test_a_label_applied_twice_counts_once() -> None:
    denied = DenyList()
    for _ in range(2):
        denied.apply(label("a", "speech"))
    assert denied.clips() == {str(CLIP)}
    denied.apply(label("a", "withdrawn"))
    assert CLIP not in denied


@dataclass
class Record:
    """What a consumer sees."""

    headers: list[tuple[str, bytes]]
    value: bytes
    topic: str = "labels"
    partition: int = 0
    offset: int = 0


def test_the_topic_is_read_whole_and_what_does_not_decode_hides_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    messages = [encode(label("a", "speech")), encode(label("b", "speech", OTHER)), encode(label("a", "withdrawn"))]
    records = [Record([], b"noise"), *(Record(one.headers, one.value) for one in messages)]
    closed = []

    class Consumer:
        def close(self) -> None:
            closed.append(True)

    monkeypatch.setattr("soundscape.denied.new_consumer", lambda settings: Consumer())
    monkeypatch.setattr("soundscape.denied.read_all", lambda consumer, topics: iter(records) if topics == ["labels"] else iter(()))
    denied = read_denied(Settings())
    assert denied.clips() == {str(OTHER)}
    assert closed
