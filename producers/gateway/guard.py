"""Whether a clip can be taken now: room on the disk, a backlog that is worked off, a broker that answers."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from producers.disk import lack_of_room
from producers.gateway.follow import REQUEST_MS, RETRY_S, Follower, new_consumer, wait_for_topics
from producers.gateway.problems import Problem
from soundscape.settings import Port, Settings
from soundscape.topics import LANES, group_of

log = logging.getLogger(__name__)

MEASURE_S = 1.0
"""Seconds between two looks at the backlog."""
SILENCE_S = 15.0
"""Seconds without an answer of the broker after which it counts as away."""


class Guard:
    """Refuses early what could not be kept or would wait too long."""

    def __init__(self, settings: Settings, followers: Sequence[Follower]) -> None:
        self._settings, self._followers = settings, followers
        self.backlog: dict[str, int] = {}
        self._answered_at = float("-inf")

    @property
    def broker_answers(self) -> bool:
        """Whether the broker answered lately."""
        return time.monotonic() < self._answered_at + SILENCE_S

    def check_disk(self) -> None:
        """Raise Problem (503, disk-full) where the data folder's disk has less free than the settings ask."""
        if why := lack_of_room(self._settings):
            raise Problem(503, "disk-full", f"{why} Nothing was accepted. Free some space, then send it again.")

    def check_backlog(self, lane: str) -> None:
        """Raise Problem (503, backlog) where more clips wait in the lane than the settings allow."""
        waiting = self.backlog.get(lane, 0)
        if waiting > self._settings.max_backlog_clips:
            raise Problem(503, "backlog", f"{waiting} clips wait in the {lane} lane already; send the clip again later.")

    async def run(self) -> None:
        """Measure for ever. Ends only by an unexpected error, or Broken by a follower that stands still."""
        while True:
            admin = AIOKafkaAdminClient(
                bootstrap_servers=self._settings.address(Port.KAFKA), client_id="gateway", request_timeout_ms=REQUEST_MS
            )
            consumer = new_consumer(self._settings)
            try:
                await wait_for_topics(self._settings)
                await consumer.start()
                await admin.start()
                while True:
                    await self._measure(admin, consumer)
                    await asyncio.sleep(MEASURE_S)
            except (KafkaError, OSError, TimeoutError) as error:
                log.warning("the backlog cannot be measured (%s); trying again", type(error).__name__)
                await asyncio.sleep(RETRY_S)
            finally:
                await consumer.stop()
                await admin.close()

    async def _measure(self, admin: AIOKafkaAdminClient, consumer: AIOKafkaConsumer) -> None:
        for follower in self._followers:
            ends = await consumer.end_offsets(follower.parts)
            self._answered_at = time.monotonic()
            follower.measure(ends)
        for lane, topic in LANES.items():
            parts = [TopicPartition(topic.name, n) for n in range(topic.partitions)]
            ends = await consumer.end_offsets(parts)
            starts = await consumer.beginning_offsets(parts)
            committed = await admin.list_consumer_group_offsets(group_of(lane))
            done = {part: entry.offset for part, entry in committed.items() if entry.offset >= 0}
            self.backlog[lane] = sum(max(0, ends[part] - max(starts[part], done.get(part, 0))) for part in parts)
