"""Kafka through kafka-python: the clients that commands and consumers share, and their errors as ours."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, TopicPartition
from kafka.admin import OffsetSpec
from kafka.errors import CoordinatorLoadInProgressError, CoordinatorNotAvailableError, KafkaError, NotCoordinatorError

from soundscape.errors import Unavailable
from soundscape.events import Event
from soundscape.settings import Port, Settings
from soundscape.topics import DEAD_LETTER_ROOM_BYTES, MAX_MESSAGE_BYTES, Topic
from soundscape.wire import Message, encode

LIMIT_S = 30
"""Seconds to wait for the broker's acknowledgement."""
PATIENCE: dict[str, Any] = {"bootstrap_timeout_ms": 10_000, "reconnect_backoff_max_ms": 1000}
"""A command without a stack says so in 10 s, and a process finds a broker again a second after its return (default: 30 s)."""
STALL_S = 60
"""Seconds without a record or an end before a bounded read gives up: kafka-python waits for ever without a word."""


@contextmanager
def broker_errors() -> Iterator[None]:
    """Map kafka-python's errors to Unavailable."""
    try:
        yield
    except KafkaError as error:
        raise Unavailable(f"The broker did not answer ({type(error).__name__}); see `soundscape status`.") from error


def _address(settings: Settings) -> str:
    logging.getLogger("kafka").setLevel(logging.CRITICAL)  # it says each failed reconnect, many times a second; callers say it once
    return settings.address(Port.KAFKA)


def new_producer(settings: Settings) -> KafkaProducer:
    """A producer that is acknowledged by all replicas and sends nothing twice. Raises Unavailable."""
    with broker_errors():
        return KafkaProducer(
            bootstrap_servers=_address(settings),
            acks="all",
            enable_idempotence=True,
            max_request_size=MAX_MESSAGE_BYTES + DEAD_LETTER_ROOM_BYTES,
            linger_ms=0,
            **PATIENCE,
        )


def abandon(producer: KafkaProducer) -> None:
    """End a producer with what it could not send, without a word: kafka-python's own `close` raises then, and its thread stays."""
    try:
        producer.close(timeout=1)
    except KafkaError:
        producer._sender.force_close()


def new_consumer(settings: Settings, **options: Any) -> KafkaConsumer:
    """A consumer without a group unless the options name one; offsets are never committed by themselves. Raises Unavailable."""
    with broker_errors():
        return KafkaConsumer(
            bootstrap_servers=_address(settings),
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            fetch_max_bytes=32 * 1024 * 1024,
            max_partition_fetch_bytes=MAX_MESSAGE_BYTES + 64 * 1024,
            **(PATIENCE | options),
        )


def new_admin(settings: Settings) -> KafkaAdminClient:
    """An administrator. Raises Unavailable."""
    with broker_errors():
        return KafkaAdminClient(bootstrap_servers=_address(settings), **PATIENCE)


def publish(producer: KafkaProducer, topic: str, message: Message) -> Any:
    """Send one record and wait for its acknowledgement; returns kafka-python's RecordMetadata. Raises Unavailable."""
    with broker_errors():
        sent = producer.send(topic, key=message.key, value=message.value, headers=message.headers)
        return sent.get(timeout=LIMIT_S)


def say(producer: KafkaProducer, topic: Topic, event: Event) -> Any:
    """Publish an event to its topic and wait for the acknowledgement. Raises Unavailable."""
    return publish(producer, topic.name, encode(event))


def read_all(consumer: KafkaConsumer, topics: list[str], poll_ms: int = 200) -> Iterator[Any]:
    """Every record of the topics up to their ends at the start, oldest first in each partition. Raises Unavailable.

    Waits until each position has passed the end, never for the record `end - 1`: compaction leaves gaps.
    """
    with broker_errors():
        parts = [TopicPartition(t, p) for t in topics for p in sorted(consumer.partitions_for_topic(t) or ())]
        if not parts:
            return
        consumer.assign(parts)
        ends = consumer.end_offsets(parts)
        starts = consumer.beginning_offsets(parts)
        open_parts = {part for part in parts if starts[part] < ends[part]}
        consumer.seek_to_beginning(*parts)
        moved_at = time.monotonic()
        while open_parts:
            for part, records in consumer.poll(poll_ms).items():
                for record in records:
                    if record.offset < ends[part]:
                        yield record
                moved_at = time.monotonic()
            open_parts = {part for part in open_parts if (consumer.position(part, timeout_ms=LIMIT_S * 1000) or 0) < ends[part]}
            if time.monotonic() > moved_at + STALL_S:
                raise Unavailable(f"The broker sent nothing for {STALL_S} s; is the stack up? `soundscape status` says.")


def committed(admin: KafkaAdminClient, group: str) -> dict[tuple[str, int], int]:
    """Next offset of each (topic, partition) that the group has committed. Raises Unavailable.

    A new broker makes the topic of the groups' offsets when it is first asked for one, and refuses until then.
    """
    deadline = time.monotonic() + LIMIT_S
    while True:
        try:
            with broker_errors():
                offsets = admin.list_group_offsets([group])[group]
                return {(part.topic, part.partition): entry.offset for part, entry in offsets.items() if entry.offset >= 0}
        except Unavailable as error:
            passing = isinstance(
                error.__cause__, CoordinatorNotAvailableError | CoordinatorLoadInProgressError | NotCoordinatorError
            )
            if not passing or time.monotonic() > deadline:
                raise
            time.sleep(0.2)


def backlog(admin: KafkaAdminClient, topic: Topic, group: str) -> int:
    """Records of a topic that the group has not committed yet; all of them where it never committed. Raises Unavailable."""
    done = committed(admin, group)
    parts = [TopicPartition(topic.name, n) for n in range(topic.partitions)]
    with broker_errors():
        ends = admin.list_partition_offsets(dict.fromkeys(parts, OffsetSpec.LATEST), timeout_ms=LIMIT_S * 1000)
        starts = admin.list_partition_offsets(dict.fromkeys(parts, OffsetSpec.EARLIEST), timeout_ms=LIMIT_S * 1000)
    return sum(ends[part].offset - max(starts[part].offset, done.get((part.topic, part.partition), 0)) for part in parts)
