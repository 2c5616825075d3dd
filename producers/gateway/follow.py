"""A topic followed without a group, for ever: what comes is handed over, and a reader that stands still is noticed."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from typing import Any

from aiokafka import AIOKafkaClient, AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from soundscape.errors import Broken
from soundscape.metrics import CONSUMER_LAG
from soundscape.settings import Port, Settings
from soundscape.topics import DEAD_LETTER_ROOM_BYTES, MAX_MESSAGE_BYTES, TOPICS, Topic

log = logging.getLogger(__name__)

RETRY_S = 1.0
"""Seconds between two tries while the broker is away."""
STILL_S = 60.0
"""A reader that does not reach, in so long, an end that the broker named is broken, and the process is started anew."""
REQUEST_MS = 10_000
"""Patience with one request to the broker."""


def new_consumer(settings: Settings, **options: Any) -> AIOKafkaConsumer:
    """A consumer without a group; offsets are never committed."""
    return AIOKafkaConsumer(
        bootstrap_servers=settings.address(Port.KAFKA),
        client_id="gateway",
        enable_auto_commit=False,
        request_timeout_ms=REQUEST_MS,
        **({"auto_offset_reset": "earliest", "max_partition_fetch_bytes": MAX_MESSAGE_BYTES + DEAD_LETTER_ROOM_BYTES} | options),
    )


async def wait_for_topics(settings: Settings) -> None:
    """Return once the broker has every topic; aiokafka would ask for a missing one without a pause. Raises KafkaError."""
    client = AIOKafkaClient(bootstrap_servers=settings.address(Port.KAFKA), client_id="gateway", request_timeout_ms=REQUEST_MS)
    try:
        await client.bootstrap()
        while True:
            if {topic.name for topic in TOPICS} <= (await client.fetch_all_metadata()).topics():
                return
            await asyncio.sleep(RETRY_S)
    finally:
        await client.close()


class Follower:
    """A reader of all partitions of a topic, from its beginning or from its end at the start; `ready` once it has caught up."""

    def __init__(
        self, settings: Settings, topic: Topic, apply: Callable[[Any], Awaitable[None] | None], from_beginning: bool = False
    ) -> None:
        self.topic, self._settings, self._apply, self._from_beginning = topic, settings, apply, from_beginning
        self.parts = [TopicPartition(topic.name, n) for n in range(topic.partitions)]
        self.ready = asyncio.Event()
        self.reached: dict[TopicPartition, int] = {}
        self._goal: dict[TopicPartition, int] = {}
        self._goal_set = 0.0

    async def run(self) -> None:
        """Follow; a broker that is away is waited for, and read on from where it was left. Ends only by an unexpected error."""
        while True:
            consumer = new_consumer(self._settings)
            try:
                await wait_for_topics(self._settings)
                await consumer.start()
                await self._read(consumer)
            except (KafkaError, OSError) as error:
                log.warning("%s cannot be read (%s); trying again", self.topic.name, type(error).__name__)
                await asyncio.sleep(RETRY_S)
            finally:
                await consumer.stop()

    async def _read(self, consumer: AIOKafkaConsumer) -> None:
        consumer.assign(self.parts)
        ends = await consumer.end_offsets(self.parts)
        starts = await consumer.beginning_offsets(self.parts) if self._from_beginning else ends
        for part in self.parts:
            self.reached.setdefault(part, starts[part])
            consumer.seek(part, self.reached[part])
        while True:
            if not self.ready.is_set() and all(self.reached[part] >= ends[part] for part in self.parts):
                self.ready.set()
            for part, records in (await consumer.getmany(timeout_ms=200)).items():
                for record in records:
                    if (applied := self._apply(record)) is not None:
                        await applied
                self.reached[part] = records[-1].offset + 1
            if not self.ready.is_set():  # compaction leaves gaps: a position passes where no record does
                self.reached = {part: await consumer.position(part) for part in self.parts}

    def measure(self, ends: dict[TopicPartition, int]) -> None:
        """Compare with the broker's ends; sets the gauge. Raises Broken if the reader has stood still too long."""
        CONSUMER_LAG.labels("gateway", self.topic.name).set(
            sum(max(0, ends[part] - self.reached[part]) for part in self.parts if part in self.reached)
        )
        met = all(self.reached.get(part, -1) >= end for part, end in self._goal.items())
        if met or not self._goal:
            self._goal, self._goal_set = dict(ends), time.monotonic()
        elif time.monotonic() - self._goal_set > STILL_S:
            raise Broken(f"The reader of {self.topic.name} has stood still for {STILL_S:.0f} s while the broker answers.")
