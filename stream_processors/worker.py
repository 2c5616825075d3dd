"""One Faust worker of a lane; `python -m stream_processors LANE N` starts it."""

from __future__ import annotations

import asyncio
import logging
import os
import sys
import threading
import time
from typing import Any

import faust
from aiokafka import AIOKafkaClient
from aiokafka.errors import KafkaError, MessageSizeTooLargeError

from soundscape.errors import Broken, Invalid, Reason, Unavailable
from soundscape.events import Place
from soundscape.health import serve_health
from soundscape.isolation import ChildPool
from soundscape.logs import set_up_logging
from soundscape.metrics import CONSUMER_LAG
from soundscape.settings import Port, Settings, get_settings
from soundscape.topics import DEAD_LETTER_ROOM_BYTES, LANES, MAX_MESSAGE_BYTES, group_of
from soundscape.wire import Message
from stream_processors.analyse import Analyser
from stream_processors.extract import warm_up
from stream_processors.safe import Processor
from stream_processors.sites import Sites
from stream_processors.triton import Triton

log = logging.getLogger(__name__)

BULK_AT_ONCE = 4
"""Recorders' minutes in work at once, a worker: enough to keep decoding and inference both busy."""
NO_PARTITION_S = 60.0
"""A worker without a partition, or in a rebalance, for so long while the broker answers is outside its group and ends itself."""
EXIT_AGAIN = 75
"""Exit code of a worker that ends itself to be started again (sysexits' EX_TEMPFAIL)."""


def new_app(lane: str, settings: Settings) -> faust.App:
    """Faust with the settings that the safe pattern needs (docs/decisions/0003-stream.md)."""
    return faust.App(
        group_of(lane),
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


class Worker:
    """One process of a lane: the Faust app, its decoding children, Triton, the deployments, and its health."""

    def __init__(self, lane: str, number: int, settings: Settings) -> None:
        self._lane, self._settings, self._name = lane, settings, f"{group_of(lane)}-{number}"
        self.app = new_app(lane, settings)
        self._children = ChildPool(settings.decoding_children, warm_up)
        self._processor: Processor | None = None
        self._sites: Sites | None = None
        self._places = asyncio.Semaphore(BULK_AT_ONCE if lane == "bulk" else 1_000)
        self._warm = False
        self._alone_since = time.monotonic()
        self._patience_s = NO_PARTITION_S + 10.0 * number  # not all at once: their returns would disturb each other
        topic = self.app.topic(LANES[lane].name, key_serializer="raw", value_serializer="raw", value_type=bytes)
        self.app.agent(topic, isolated_partitions=True, name=self._name)(self._read)
        for task in (self._follow, self._watch):
            self.app.task(task)
        self.app.on_partitions_revoked.connect(self._revoked, weak=False)
        threading.Thread(target=self._stop_in_an_outage, name="stop", daemon=True).start()
        port = Port.LIVE if lane == "live" else Port.BULK
        serve_health(settings.port(port, number), self.health)

    async def _read(self, stream: Any) -> None:
        async for event in stream.events():
            message = event.message
            place = Place(topic=message.topic, partition=message.partition, offset=message.offset)
            async with self._places:
                try:
                    await self._ready().safe(place, message.key, list(message.headers or ()), message.value)
                except Broken as error:
                    self._end(str(error))

    async def _follow(self) -> None:
        """Warm the decoders, then follow the deployments; no clip is begun before both, so that none pays for a cold start."""
        self._ready()
        assert self._sites is not None
        await asyncio.gather(*(self._children.run(os.getpid) for _ in range(self._settings.decoding_children)), return_exceptions=True)
        self._warm = True
        await self._sites.follow()

    def _ready(self) -> Processor:
        """Made on first use, inside the running loop."""
        if self._processor is None:
            triton, self._sites = Triton(self._settings), Sites(self._settings, self._name)
            analyser = Analyser(self._lane, triton, self._children)
            limit_s = self._settings.model_probe_limit_s
            self._processor = Processor(self._lane, analyser, triton, self._sites, self._publish, limit_s)
        return self._processor

    async def _publish(self, topic: str, message: Message) -> None:
        try:
            await self.app.producer.send_and_wait(topic, message.key, message.value, None, None, message.headers)
        except MessageSizeTooLargeError as error:
            raise Invalid(Reason.TOO_LARGE, f"What was to be said on {topic} is larger than the topic takes; the clip is kept.") from error
        except (KafkaError, OSError) as error:
            raise Unavailable(f"the broker does not take the answer ({type(error).__name__})") from error

    async def _revoked(self, *_: Any, **__: Any) -> None:
        """A clip that waits would hold the rebalance until the group throws this worker out; it is delivered again."""
        if self._processor and self._processor.waiting:
            self._end("partitions are taken away while clips wait")

    async def _watch(self) -> None:
        """End this process where it would do nothing for ever."""
        while True:
            await asyncio.sleep(0.5)
            partitions = self._partitions()
            CONSUMER_LAG.labels(self._name, LANES[self._lane].name).set(self._lag())
            if partitions and not self.app.rebalancing:  # what it held before a rebalance that never ends is another's by now
                self._alone_since = time.monotonic()
            elif time.monotonic() - self._alone_since > self._patience_s:
                if await broker_answers(self._settings):
                    self._end(f"it has had no partition of its own for {self._patience_s:.0f} s while the broker answers")
                self._alone_since = time.monotonic()

    def _stop_in_an_outage(self) -> None:
        """A clean stop waits for the clips in flight; while they wait for what is away, it would never end. Runs in a thread of its own."""
        while True:
            time.sleep(0.5)
            if self.app.should_stop and self._processor and self._processor.waiting:
                self._end("it is asked to stop while clips wait")

    def _end(self, why: str) -> None:
        log.error("%s ends itself: %s (%s)", self._name, why, self._processor.waiting if self._processor else "")
        os._exit(EXIT_AGAIN)  # a clean stop would wait for the clips, and acknowledge none: they are delivered again

    def _partitions(self) -> int:
        consumer = getattr(self.app, "_consumer", None)
        return len([tp for tp in consumer.assignment() if tp.topic == LANES[self._lane].name]) if consumer else 0

    def _lag(self) -> int:
        consumer = self.app.consumer
        lag = 0
        for tp in consumer.assignment() if consumer else ():
            high, committed = consumer.highwater(tp), consumer._committed_offset.get(tp)
            lag += max(0, (high or 0) - (committed or 0))
        return lag

    def health(self) -> dict[str, Any]:
        """Healthy: decoders warm, partitions assigned, not rebalancing, deployments read, nothing waiting."""
        partitions, rebalancing = self._partitions(), bool(self.app.rebalancing)
        waiting = self._processor.waiting if self._processor else ""
        read = bool(self._sites and self._sites.ready.is_set())
        not_yet = {
            "starting decoders": not self._warm,
            "rebalancing": rebalancing,
            "no partition": not partitions,
            "reading deployments": not read,
        }
        why = waiting or next((name for name, holds in not_yet.items() if holds), "")
        return {
            "healthy": not why,
            "why": why,
            "partitions": partitions,
            "rebalancing": rebalancing,
            "generations": self._sites.generations if self._sites else {},
        }


async def broker_answers(settings: Settings) -> bool:
    """Whether the broker tells its metadata."""
    client = AIOKafkaClient(bootstrap_servers=settings.address(Port.KAFKA))
    try:
        await client.bootstrap()
        there = (await client.fetch_all_metadata()).topics()
    except (KafkaError, OSError):
        return False
    else:
        return all(topic.name in there for topic in LANES.values())
    finally:
        await client.close()


async def wait_for_broker(settings: Settings) -> None:
    """Return when the broker answers and has the lanes' topics; Faust would end instead."""
    while not await broker_answers(settings):
        log.warning("waiting for the broker at %s and its topics", settings.address(Port.KAFKA))
        await asyncio.sleep(1.0)


def main() -> None:
    """Run one worker until it is told to stop."""
    set_up_logging()
    lane, number = sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 0
    settings = get_settings()
    asyncio.run(wait_for_broker(settings))
    asyncio.set_event_loop(loop := asyncio.new_event_loop())
    faust.Worker(Worker(lane, number, settings).app, loglevel="WARNING", loop=loop).execute_from_commandline()
