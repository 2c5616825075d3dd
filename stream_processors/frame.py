"""What every Faust process here shares: the app by the safe pattern, its health, and its end where it would do nothing for ever."""

from __future__ import annotations

import asyncio
import logging
import os
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

import faust
from aiokafka import AIOKafkaClient
from aiokafka.errors import KafkaError, MessageSizeTooLargeError

from soundscape.errors import Broken, Invalid, Reason, Unavailable
from soundscape.events import Place
from soundscape.health import serve_health
from soundscape.logs import set_up_logging
from soundscape.metrics import CONSUMER_LAG, UNREADABLE
from soundscape.settings import Port, Settings, get_settings
from soundscape.topics import DEAD_LETTER_ROOM_BYTES, MAX_MESSAGE_BYTES, Topic
from soundscape.wire import Headers, Message

log = logging.getLogger(__name__)

NO_PARTITION_S = 60.0
"""A worker without a partition, or in a rebalance, for so long while the broker answers is outside its group and ends itself."""
EXIT_AGAIN = 75
"""Exit code of a worker that ends itself to be started again (sysexits' EX_TEMPFAIL)."""


def new_app(group: str, settings: Settings) -> faust.App:
    """Faust with the settings that the safe pattern needs (docs/decisions/0003-stream.md)."""
    return faust.App(
        group,
        broker=f"kafka://{settings.address(Port.KAFKA)}",
        datadir=settings.state / "faust",
        topic_allow_declare=False,
        topic_disable_leader=True,
        consumer_auto_offset_reset="earliest",
        consumer_max_fetch_size=MAX_MESSAGE_BYTES + DEAD_LETTER_ROOM_BYTES,
        producer_acks=-1,
        producer_linger=0,
        producer_max_request_size=MAX_MESSAGE_BYTES + DEAD_LETTER_ROOM_BYTES,
        broker_session_timeout=10.0,
        broker_heartbeat_interval=3.0,
        broker_max_poll_interval=settings.rebalance_poll_s,
        broker_commit_interval=1.0,
        stream_buffer_maxsize=16,
        web_enabled=False,
        worker_redirect_stdouts=False,
    )


class StreamProcess(ABC):
    """One process of a consumer group. A subclass answers records in `handle`, and says in `waiting` and `not_yet` how it is."""

    def __init__(self, group: str, name: str, port: int, topics: Sequence[Topic], settings: Settings, patience_s: float = 0.0) -> None:
        """`patience_s` is added to NO_PARTITION_S: several workers shall not end all at once, since their returns disturb each other."""
        self.settings, self.name, self.topics = settings, name, tuple(topics)
        self.app = new_app(group, settings)
        self._port = port
        self._alone_since = time.monotonic()
        self._patience_s = NO_PARTITION_S + patience_s
        topic = self.app.topic(
            *(one.name for one in self.topics), key_serializer="raw", value_serializer="raw", value_type=bytes
        )
        self.app.agent(topic, isolated_partitions=True, name=name)(self._read)
        for task in (self.prepare, self._watch):
            self.app.task(task)
        self.app.on_partitions_revoked.connect(self._revoked, weak=False)
        threading.Thread(target=self._stop_in_an_outage, name="stop", daemon=True).start()

    @abstractmethod
    async def handle(self, place: Place, key: bytes | None, headers: Headers, value: bytes | None) -> None:
        """Answer one record; when it returns, the record is done. Raises Broken: the process ends and the record is read again."""

    async def prepare(self) -> None:  # noqa: B027  a process that has none leaves it as it is
        """Background work, begun with the app."""

    def waiting(self) -> str:
        """Why records wait for something that everybody needs; empty if none does."""
        return ""

    def not_yet(self) -> dict[str, bool]:
        """What is still to come before it is healthy, by its name."""
        return {}

    def report(self) -> dict[str, Any]:
        """What `/healthz` says beside the rest."""
        return {}

    def serve_health(self) -> None:
        """Begin to answer `/healthz` and `/metrics`."""
        serve_health(self._port, self.health, self.tell)

    def tell(self, path: str) -> dict[str, Any] | None:
        """What its door tells of a path beside those two, from the door's thread; None for one that it does not know."""
        return None

    async def publish(self, topic: str, message: Message) -> None:
        """Publish and wait for the acknowledgement. Raises Invalid for what the topic never takes, Unavailable."""
        try:
            await self.app.producer.send_and_wait(topic, message.key, message.value, None, None, message.headers)
        except MessageSizeTooLargeError as error:
            raise Invalid(Reason.TOO_LARGE, f"What was to be said on {topic} is larger than the topic takes; the clip is kept.") from error
        except (KafkaError, OSError) as error:
            raise Unavailable(f"the broker does not take the answer ({type(error).__name__})") from error

    async def _read(self, stream: Any) -> None:
        async for event in stream.events():
            message = event.message
            place = Place(topic=message.topic, partition=message.partition, offset=message.offset)
            try:
                await self.handle(place, message.key, list(message.headers or ()), message.value)
            except Broken as error:
                self.end(str(error))
            except Exception:  # Faust would acknowledge and drop it without a word; to end here would be to meet it again for ever
                UNREADABLE.labels(self.name, place.topic).inc()
                log.exception("%s is passed over", place)

    async def _revoked(self, *_: Any, **__: Any) -> None:
        """A record that waits would hold the rebalance until the group throws this worker out; it is delivered again."""
        if self.waiting():
            self.end("partitions are taken away while records wait")

    async def _watch(self) -> None:
        """End this process where it would do nothing for ever."""
        while True:
            await asyncio.sleep(0.5)
            for topic, lag in self._lag().items():
                CONSUMER_LAG.labels(self.name, topic).set(lag)
            if self.partitions() and not self.app.rebalancing:  # what it held before a rebalance that never ends is another's by now
                self._alone_since = time.monotonic()
            elif time.monotonic() - self._alone_since > self._patience_s:
                if await broker_answers(self.settings, self.topics):
                    self.end(f"it has had no partition of its own for {self._patience_s:.0f} s while the broker answers")
                self._alone_since = time.monotonic()

    def _stop_in_an_outage(self) -> None:
        """A clean stop waits for the records in flight; while they wait for what is away, it would never end. Runs in a thread."""
        while True:
            time.sleep(0.5)
            if self.app.should_stop and self.waiting():
                self.end("it is asked to stop while records wait")

    def end(self, why: str) -> NoReturn:
        """End at once: a clean stop would wait for the records in flight, and acknowledge none: they are delivered again."""
        log.error("%s ends itself: %s (%s)", self.name, why, self.waiting())
        os._exit(EXIT_AGAIN)

    def partitions(self) -> int:
        """Partitions of its topics that are assigned to this process."""
        consumer, names = getattr(self.app, "_consumer", None), {topic.name for topic in self.topics}
        return len([tp for tp in consumer.assignment() if tp.topic in names]) if consumer else 0

    def _lag(self) -> dict[str, int]:
        consumer = self.app.consumer
        lag = {topic.name: 0 for topic in self.topics}
        for tp in consumer.assignment() if consumer else ():
            if tp.topic in lag:
                high, committed = consumer.highwater(tp), consumer._committed_offset.get(tp)
                lag[tp.topic] += max(0, (high or 0) - (committed or 0))
        return lag

    def health(self) -> dict[str, Any]:
        """Healthy: all that is `not_yet` has come, partitions assigned, not rebalancing, nothing waiting."""
        partitions, rebalancing = self.partitions(), bool(self.app.rebalancing)
        not_yet = {**self.not_yet(), "rebalancing": rebalancing, "no partition": not partitions}
        why = self.waiting() or next((name for name, holds in not_yet.items() if holds), "")
        return {"healthy": not why, "why": why, "partitions": partitions, "rebalancing": rebalancing, **self.report()}


async def broker_answers(settings: Settings, topics: Sequence[Topic]) -> bool:
    """Whether the broker tells its metadata and has the topics."""
    client = AIOKafkaClient(bootstrap_servers=settings.address(Port.KAFKA))
    try:
        await client.bootstrap()
        there = (await client.fetch_all_metadata()).topics()
    except (KafkaError, OSError):
        return False
    else:
        return all(topic.name in there for topic in topics)
    finally:
        await client.close()


async def wait_for_broker(settings: Settings, topics: Sequence[Topic]) -> None:
    """Return when the broker answers and has the topics; Faust would end instead."""
    while not await broker_answers(settings, topics):
        log.warning("waiting for the broker at %s and its topics", settings.address(Port.KAFKA))
        await asyncio.sleep(1.0)


def run(make: Callable[[Settings], StreamProcess], topics: Sequence[Topic]) -> None:
    """Run one process until it is told to stop."""
    set_up_logging()
    settings = get_settings()
    asyncio.run(wait_for_broker(settings, topics))
    asyncio.set_event_loop(loop := asyncio.new_event_loop())
    process = make(settings)
    process.serve_health()
    faust.Worker(process.app, loglevel="WARNING", loop=loop).execute_from_commandline()
