"""What a benchmark reads and sends: records that do not decode are passed over, and a failed sender is not a failed reader."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any
from unittest.mock import MagicMock
from uuid import UUID

import pytest

import monitoring.answers
from monitoring import bench
from soundscape.errors import Unavailable
from soundscape.events import ClipAnalysed, Place, Stages
from soundscape.settings import get_settings
from soundscape.wire import Message, encode

NOW = datetime(2026, 6, 1, 5, 0, tzinfo=UTC)
CLIP = "00000000-0000-0000-0000-00000000000a"
FROM_LATER = Message(b"", b"{}", [("ce_type", b"org.elsilencio.something.v9")])
"""A record that this version does not know."""


def record(message: Message | None) -> SimpleNamespace:
    """As kafka-python hands it out; without a message, a tombstone."""
    return SimpleNamespace(value=message and message.value, headers=message.headers if message else [], timestamp=1000)


def answer() -> ClipAnalysed:
    """An answer whose stages take a tenth of a second each."""
    moments = {name: NOW + timedelta(milliseconds=100 * n) for n, name in enumerate(monitoring.answers.STAGES)}
    return ClipAnalysed(
        clip_id=UUID(CLIP), stream="REC01", site="bench", place=Place(topic="clips", partition=0, offset=1), release="r",
        release_digest="d", generation=1, feature_fingerprints=("f",), labels=("frog",), windows=(), detections=(),
        stages=Stages.model_validate(moments),
    )  # fmt: skip


def test_an_answer_that_does_not_decode_is_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    consumer = MagicMock()
    consumer.poll.return_value = {"part": [record(FROM_LATER), record(encode(answer()))]}
    monkeypatch.setattr(monitoring.answers, "new_consumer", lambda _: consumer)
    answers = monitoring.answers.Answers(get_settings())
    answers.read()
    assert answers.found == {CLIP: (answer(), 1.0)}


def test_answers_are_read_while_minutes_are_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    read = threading.Event()
    answers = MagicMock()
    answers.read.side_effect = read.set

    def publish(*_: Any) -> set[str]:
        assert read.wait(30), "nothing was read meanwhile"
        return {CLIP}

    monkeypatch.setattr(bench, "publish_minutes", publish)
    assert bench.publish_and_read(get_settings(), 1, answers) == {CLIP}


def test_what_stopped_the_sender_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    def publish(*_: Any) -> set[str]:
        raise Unavailable("The broker did not answer.")

    monkeypatch.setattr(bench, "publish_minutes", publish)
    with pytest.raises(Unavailable, match="The broker did not answer"):
        bench.publish_and_read(get_settings(), 1, MagicMock())
