"""Older clips: their state from the board in Redis, their answer from its place on the log."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import redis.asyncio as aioredis
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError, OffsetOutOfRangeError
from redis.exceptions import RedisError

from producers.gateway.answers import Known, prediction_in
from producers.gateway.follow import new_consumer
from producers.gateway.problems import Problem
from soundscape.board import clip_key
from soundscape.errors import Reason, Unavailable
from soundscape.events import Place
from soundscape.settings import HOST, Port, Settings

PATIENCE_S = 0.5
"""Seconds for one answer of Redis."""
REST_S = 2.0
"""Seconds for which Redis is not asked after it failed: a guide's clip does not wait for it again and again."""
READ_S = 5.0
"""Seconds to read one record back from the log."""


class Board:
    """The board's word on a clip."""

    def __init__(self, settings: Settings) -> None:
        self._redis = aioredis.Redis(
            host=HOST,
            port=settings.port(Port.REDIS),
            decode_responses=True,
            socket_timeout=PATIENCE_S,
            socket_connect_timeout=PATIENCE_S,
        )
        self._rest_until = 0.0

    async def fields(self, clip_id: str) -> dict[str, str]:
        """The clip's hash, empty if the board does not know it. Raises Unavailable."""
        if time.monotonic() < self._rest_until:
            raise Unavailable("The board did not answer a moment ago; ask again in a few seconds.")
        try:
            found = await self._redis.hgetall(clip_key(clip_id))
        except (RedisError, OSError) as error:
            self._rest_until = time.monotonic() + REST_S
            raise Unavailable("The board does not answer; ask again in a few seconds.") from error
        return {str(name): str(text) for name, text in found.items()}

    async def close(self) -> None:
        """Close the connections."""
        await self._redis.aclose()


class LogReader:
    """One record by its place; one reader, used by one request at a time."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._consumer: AIOKafkaConsumer | None = None
        self._one = asyncio.Lock()

    async def read(self, place: Place) -> Any | None:
        """The record that lies there, or None if it is gone. Raises Unavailable."""
        part = TopicPartition(place.topic, place.partition)
        async with self._one:
            try:
                async with asyncio.timeout(READ_S):
                    if self._consumer is None:
                        consumer = new_consumer(
                            self._settings, auto_offset_reset="none", fetch_max_wait_ms=100, max_partition_fetch_bytes=65_536
                        )
                        try:
                            await consumer.start()
                        except BaseException:
                            await consumer.stop()
                            raise
                        self._consumer = consumer
                    self._consumer.assign([part])
                    if not await self._holds(part, place.offset):
                        return None
                    self._consumer.seek(part, place.offset)
                    record = await self._consumer.getone(part)
            except OffsetOutOfRangeError:
                return None
            except (KafkaError, OSError, TimeoutError) as error:
                await self.close()
                raise Unavailable("The log did not give a record back; ask again in a few seconds.") from error
            finally:
                if self._consumer is not None:
                    self._consumer.unsubscribe()  # else it goes on fetching
            return record if record.offset == place.offset else None

    async def _holds(self, part: TopicPartition, offset: int) -> bool:
        assert self._consumer is not None
        first = (await self._consumer.beginning_offsets([part]))[part]
        end = (await self._consumer.end_offsets([part]))[part]
        return bool(first <= offset < end)

    async def close(self) -> None:
        """End the reader; the next read makes another."""
        consumer, self._consumer = self._consumer, None
        if consumer is not None:
            await consumer.stop()


class Lookup:
    """What the system knows of a clip that this process does not remember."""

    def __init__(self, board: Board, reader: LogReader) -> None:
        self._board, self._reader = board, reader

    async def find(self, clip_id: str) -> Known | None:
        """The clip's state, None if nobody knows it. Raises Unavailable; Problem (410) if its answer has left the log."""
        fields = await self._board.fields(clip_id)
        if not fields:
            return None
        site = fields.get("site")
        if "predicted" in fields:
            topic, partition, offset = fields["predicted"].rsplit(":", 2)
            place = Place(topic=topic, partition=int(partition), offset=int(offset))
            record = await self._reader.read(place)
            found = prediction_in(list(record.headers), record.value, place) if record is not None else None
            if found is None or found[0] != clip_id:
                raise Problem(410, "gone", "The clip was answered, and its answer has left the log; send the clip again.")
            return found[1]
        if "dead" in fields:
            return Known("dead", site, reason=fields.get("reason", str(Reason.POISON)), detail=fields.get("detail", ""))
        return Known("queued", site)
