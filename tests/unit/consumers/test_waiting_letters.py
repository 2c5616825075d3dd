"""Which dead letters the deployer sends again by itself, and that they say so."""

from __future__ import annotations

from typing import Any

import pytest

from consumers import again, deadletters, waiting_letters
from consumers.waiting_letters import WaitingLetters
from soundscape.errors import Reason
from soundscape.settings import Settings
from soundscape.wire import Message, replays


class Logs:
    """Dead letters in memory, followed and read as from the broker, and what was published."""

    def __init__(self) -> None:
        self.dead: list[Any] = []
        self.answers: list[Any] = []
        self.sent: list[tuple[str, Message]] = []
        self._polled = 0

    def read_all(self, consumer: object, topics: list[str]) -> Any:
        """Every record."""
        return iter(self.dead if topics == ["dead-letters"] else self.answers)

    def publish(self, producer: object, topic: str, message: Message) -> None:
        """Remember it."""
        self.sent.append((topic, message))

    def poll(self, timeout_ms: int) -> dict[str, list[Any]]:
        new, self._polled = self.dead[self._polled :], len(self.dead)
        return {"part": new} if new else {}

    def assign(self, parts: object) -> None: ...

    def seek_to_beginning(self) -> None: ...

    def close(self) -> None: ...


@pytest.fixture
def logs(monkeypatch: pytest.MonkeyPatch) -> Logs:
    made = Logs()
    for module, name in ((deadletters, "new_consumer"), (waiting_letters, "new_consumer"), (again, "new_producer")):
        monkeypatch.setattr(module, name, lambda settings: made)
    monkeypatch.setattr(deadletters, "read_all", made.read_all)
    monkeypatch.setattr(again, "publish", made.publish)
    return made


def test_a_clip_is_sent_again_each_time_it_dies_of_its_model_and_says_how_often(writer: Any, logs: Logs) -> None:
    letters, came = WaitingLetters(Settings()), writer.clip("one", topic="clips")
    for times in range(1, 4):
        logs.dead.append(writer.death(came, Reason.MODEL_UNAVAILABLE))
        assert letters.replay({"s"}) == 1
        assert letters.replay({"s"}) == 0, "once for each death"
        topic, message = logs.sent[-1]
        assert (topic, message.key, message.value, replays(message.headers)) == ("clips", came.key, came.value, times)
        came = writer.put(topic, message)


def test_what_ended_as_poison_stays(writer: Any, logs: Logs) -> None:
    """Its last letter is what counts, also for a deployer that begins anew and reads its older ones."""
    came = writer.clip("one", topic="clips")
    logs.dead = [writer.death(came, Reason.MODEL_UNAVAILABLE), writer.death(came, Reason.POISON)]
    assert WaitingLetters(Settings()).replay({"s"}) == 0
    assert not logs.sent


def test_another_site_waits(writer: Any, logs: Logs) -> None:
    """And what was answered meanwhile is left alone."""
    letters = WaitingLetters(Settings())
    logs.dead = [writer.death(writer.clip(name), Reason.MODEL_UNAVAILABLE) for name in ("one", "two")]
    assert letters.replay({"elsewhere"}) == 0
    logs.answers = [writer.answer("one")]
    assert letters.replay({"s"}) == 1


def test_what_a_person_sends_again_does_not_count(writer: Any, logs: Logs) -> None:
    logs.dead = [writer.death(writer.clip("one"), Reason.MODEL_UNAVAILABLE)]
    assert deadletters.replay(Settings(), lambda dead: True) == 1
    assert replays(logs.sent[0][1].headers) == 0
