"""Which dead letters are sent again, and as what."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from click.testing import CliRunner

from consumers import again, deadletters
from soundscape.errors import Invalid, Reason
from soundscape.settings import Settings
from soundscape.wire import Message

Id = Callable[[str], str]


class _Closed:
    def close(self) -> None:
        """Nothing is open."""


class Logs:
    """The dead letters and predictions that are there, and what was published."""

    def __init__(self) -> None:
        self.topics: dict[str, list[Any]] = {"dead-letters": [], "predictions": []}
        self.sent: list[tuple[str, Message]] = []

    def read_all(self, consumer: object, topics: list[str]) -> Iterator[Any]:
        """Every record."""
        return iter([record for topic in topics for record in self.topics[topic]])

    def publish(self, producer: object, topic: str, message: Message) -> None:
        """Remember it."""
        self.sent.append((topic, message))


@pytest.fixture
def logs(monkeypatch: pytest.MonkeyPatch) -> Logs:
    made = Logs()
    monkeypatch.setattr(deadletters, "read_all", made.read_all)
    monkeypatch.setattr(again, "publish", made.publish)
    monkeypatch.setattr(deadletters, "new_consumer", lambda settings: _Closed())
    monkeypatch.setattr(again, "new_producer", lambda settings: _Closed())
    return made


def test_the_record_that_died_is_sent_again_unchanged(writer: Any, logs: Logs) -> None:
    came = writer.clip("one", topic="clips")
    logs.topics["dead-letters"] = [writer.death(came)]
    assert deadletters.replay(Settings(), lambda dead: True) == 1
    assert logs.sent == [("clips", Message(came.key, came.value, came.headers))]


def test_what_was_answered_since_is_left_alone(writer: Any, logs: Logs) -> None:
    logs.topics["dead-letters"] = [writer.death(writer.clip("one"))]
    logs.topics["predictions"] = [writer.answer("one")]
    assert deadletters.replay(Settings(), lambda dead: True) == 0
    assert not logs.sent


def test_a_clip_that_died_twice_is_sent_once(writer: Any, logs: Logs) -> None:
    came = writer.clip("one")
    logs.topics["dead-letters"] = [writer.death(came), writer.death(came, Reason.POISON)]
    assert deadletters.replay(Settings(), lambda dead: True) == 1


def test_only_the_wanted_are_sent(writer: Any, logs: Logs) -> None:
    logs.topics["dead-letters"] = [writer.death(writer.clip("a"), Reason.NO_RELEASE), writer.death(writer.clip("b"))]
    assert deadletters.replay(Settings(), lambda dead: dead.reason == Reason.NO_RELEASE) == 1


def test_nothing_is_sent_to_a_topic_that_is_no_lane(writer: Any, logs: Logs) -> None:
    logs.topics["dead-letters"] = [writer.death(writer.clip("one", topic="deployments"))]
    assert deadletters.replay(Settings(), lambda dead: True) == 0
    place = deadletters.letters(Settings())[0].event.clip_id
    refused = CliRunner().invoke(deadletters.deadletters, ["replay", place])
    assert isinstance(refused.exception, Invalid)


def test_the_list_has_no_answered_and_no_probes(writer: Any, logs: Logs, clip_id: Id) -> None:
    logs.topics["dead-letters"] = [writer.death(writer.clip(name, probe=name == "probe")) for name in ("one", "two", "probe")]
    logs.topics["predictions"] = [writer.answer("one")]
    shown = CliRunner().invoke(deadletters.deadletters, ["list"], catch_exceptions=False).output
    assert clip_id("two") in shown
    assert clip_id("one") not in shown
    assert clip_id("probe") not in shown


def test_the_body_comes_back_as_it_was(writer: Any, logs: Logs, clip_id: Id, tmp_path: Any) -> None:
    logs.topics["dead-letters"] = [writer.death(writer.clip("one"))]
    body = tmp_path / "body.ogg"
    CliRunner().invoke(deadletters.deadletters, ["show", clip_id("one"), "--body", str(body)], catch_exceptions=False)
    assert body.read_bytes() == b"sound of one"


@pytest.mark.parametrize("arguments", [["replay", "nobody"], ["show", "nobody"]])
def test_a_request_that_names_nothing_is_refused(logs: Logs, arguments: list[str]) -> None:
    assert isinstance(CliRunner().invoke(deadletters.deadletters, arguments).exception, Invalid)


def test_a_bare_replay_sends_all_that_were_not_answered(writer: Any, logs: Logs) -> None:
    logs.topics["dead-letters"] = [writer.death(writer.clip(name)) for name in ("one", "two", "three")]
    logs.topics["predictions"] = [writer.answer("one")]
    said = CliRunner().invoke(deadletters.deadletters, ["replay"], catch_exceptions=False).output
    assert len(logs.sent) == 2
    assert "2 clips were sent again" in said
