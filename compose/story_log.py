"""What the story's steps read back from the log: a step holds only where its events lie there."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import closing, suppress
from typing import Any, TypeVar

from kafka import TopicPartition

from compose.demo_story import StepFailed
from soundscape.errors import Invalid
from soundscape.events import Event
from soundscape.kafka import broker_errors, new_consumer, read_all
from soundscape.settings import Settings
from soundscape.topics import TOPICS, Topic
from soundscape.wire import decode

E = TypeVar("E", bound=Event)
LIMIT_S = 120.0
"""Seconds that something may take to arrive."""


def events(settings: Settings, topic: Topic, kind: type[E], wanted: Callable[[E], bool]) -> dict[str, E]:
    """The events of a topic that are wanted, by `topic:partition:offset`, oldest first in each partition. Raises Unavailable."""
    found: dict[str, E] = {}
    with closing(new_consumer(settings)) as consumer:
        for record in read_all(consumer, [topic.name]):
            if record.value is None:
                continue
            with suppress(Invalid):
                event = decode(kind, record.headers, record.value)
                if wanted(event):
                    found[f"{record.topic}:{record.partition}:{record.offset}"] = event
    return found


def ends(settings: Settings) -> dict[str, int]:
    """The next offsets of every topic that is there, its partitions added up. Raises Unavailable."""
    with closing(new_consumer(settings)) as consumer, broker_errors():
        there = consumer.topics()
        parts = [TopicPartition(topic.name, n) for topic in TOPICS if topic.name in there for n in range(topic.partitions)]
        found = dict.fromkeys((part.topic for part in parts), 0)
        for part, end in consumer.end_offsets(parts).items():
            found[part.topic] += end
    return found


def until(look: Callable[[], Any], what: str, limit_s: float = LIMIT_S) -> Any:
    """The first true value of a look. Raises StepFailed that names what did not come."""
    deadline = time.monotonic() + limit_s
    while not (value := look()):
        if time.monotonic() > deadline:
            raise StepFailed(f"Not within {limit_s:.0f} s: {what}.")
        time.sleep(0.3)
    return value


def require(holds: object, what: str) -> None:
    """Raise StepFailed that says what does not hold."""
    if not holds:
        raise StepFailed(what)
