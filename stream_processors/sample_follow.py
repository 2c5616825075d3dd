"""A whole topic read from its beginning, without a group, in a Faust process's own loop."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from soundscape.settings import Port, Settings
from soundscape.topics import Topic

log = logging.getLogger(__name__)

POLL_MS = 500
RETRY_S = 1.0


async def follow(settings: Settings, topic: Topic, take: Callable[[Any], None], read: asyncio.Event, *, on: bool = True) -> None:
    """Hand every record to `take`, set `read` at the topic's end as it was at the start, and read `on` for ever.

    A broker that is away is waited for, and no record is taken twice: taking an old label again would bring an old state back.
    """
    parts = [TopicPartition(topic.name, n) for n in range(topic.partitions)]
    positions: dict[TopicPartition, int] = {}
    ends: dict[TopicPartition, int] = {}
    while on or not read.is_set():
        consumer = AIOKafkaConsumer(
            bootstrap_servers=settings.address(Port.KAFKA), enable_auto_commit=False, auto_offset_reset="earliest"
        )
        try:
            await consumer.start()
            consumer.assign(parts)
            await consumer.seek_to_beginning(*parts)
            for part, position in positions.items():
                consumer.seek(part, position)
            ends = ends or await consumer.end_offsets(parts)
            while on or not read.is_set():
                if not read.is_set() and all([await consumer.position(part) >= ends[part] for part in parts]):
                    read.set()
                    continue
                for part, records in (await consumer.getmany(timeout_ms=POLL_MS)).items():
                    for record in records:
                        take(record)
                        positions[part] = record.offset + 1
        except (KafkaError, OSError) as error:
            log.warning("%s cannot be read (%s); trying again", topic.name, error)
            await asyncio.sleep(RETRY_S)
        finally:
            await consumer.stop()
