"""Dead letters that wait for a model: followed as they come, sent again when their site's models answer."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

from kafka import TopicPartition

from consumers.deadletters import replay
from soundscape.errors import Reason
from soundscape.kafka import broker_errors, new_consumer
from soundscape.settings import Settings
from soundscape.topics import DEAD_LETTERS
from soundscape.wire import texts


class WaitingLetters:
    """Ids of the clips that died of a model, by site. Read from the topic's beginning: a restart forgets none."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._consumer: Any = None
        self._waiting: dict[str, set[str]] = defaultdict(set)

    def replay(self, sites: set[str]) -> int:
        """Send the waiting clips of these sites again, those that were not answered meanwhile; returns how many. Raises Unavailable."""
        self._follow()
        there = sites & self._waiting.keys()
        ids = set[str]().union(*(self._waiting[site] for site in there))
        if not ids:
            return 0
        count = replay(self._settings, lambda dead: dead.clip_id in ids and dead.reason == Reason.MODEL_UNAVAILABLE, by_itself=True)
        for site in there:
            del self._waiting[site]
        return count

    def _follow(self) -> None:
        with broker_errors():
            if self._consumer is None:
                self._consumer = new_consumer(self._settings)
                self._consumer.assign([TopicPartition(DEAD_LETTERS.name, p) for p in range(DEAD_LETTERS.partitions)])
                self._consumer.seek_to_beginning()
            while batch := self._consumer.poll(50):
                for record in (record for records in batch.values() for record in records):
                    said = texts(record.headers)
                    if said.get("ce_reason") == Reason.MODEL_UNAVAILABLE:
                        self._waiting[said.get("ce_site", "")].add(said.get("ce_clipid", ""))
