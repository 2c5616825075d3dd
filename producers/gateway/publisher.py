"""The gateway's producer: one record out, acknowledged by all replicas, within a bounded time."""

from __future__ import annotations

import asyncio
import logging

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError, KafkaTimeoutError, MessageSizeTooLargeError

from producers.gateway.follow import REQUEST_MS, RETRY_S, wait_for_topics
from soundscape.errors import Invalid, Reason, Unavailable
from soundscape.events import Place
from soundscape.settings import Port, Settings
from soundscape.topics import FEEDBACK, LANES, MAX_MESSAGE_BYTES, TOUR_EVENTS
from soundscape.wire import Message

log = logging.getLogger(__name__)

ACKNOWLEDGED_S = 5.0
"""Seconds that a client waits for the broker's acknowledgement; then it hears 503 and sends again: the clip keeps its identity."""


class Publisher:
    """An idempotent producer that is made anew after an error that it cannot recover from."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._producer: AIOKafkaProducer | None = None
        self._spoilt = asyncio.Event()

    @property
    def connected(self) -> bool:
        """Whether there is a producer that has reached the broker."""
        return self._producer is not None

    async def run(self) -> None:
        """Keep a producer, for ever."""
        while True:
            producer = AIOKafkaProducer(
                bootstrap_servers=self._settings.address(Port.KAFKA),
                client_id="gateway",
                acks="all",
                enable_idempotence=True,
                linger_ms=0,
                max_request_size=MAX_MESSAGE_BYTES,
                request_timeout_ms=REQUEST_MS,
            )
            try:
                await wait_for_topics(self._settings)
                await producer.start()
                for topic in (*LANES.values(), FEEDBACK, TOUR_EVENTS):
                    await producer.partitions_for(topic.name)  # else the first clip waits for it
                self._spoilt.clear()
                self._producer = producer
                await self._spoilt.wait()
            except (KafkaError, OSError) as error:
                log.warning("the broker cannot be reached (%s); trying again", type(error).__name__)
                await asyncio.sleep(RETRY_S)
            finally:
                self._producer = None
                try:
                    async with asyncio.timeout(RETRY_S):
                        await producer.stop()
                except (TimeoutError, KafkaError, OSError):
                    log.warning("the old producer did not end in time")

    async def publish(self, topic: str, message: Message) -> Place:
        """Send, wait for the acknowledgement, and say where the record lies. Raises Unavailable; Invalid (too-large)."""
        producer = self._producer
        if producer is None:
            raise Unavailable("The gateway has not reached the broker yet; send it again in a moment.")
        try:
            async with asyncio.timeout(ACKNOWLEDGED_S):
                sent = await producer.send_and_wait(topic, message.value, message.key, headers=message.headers)
                return Place(topic=sent.topic, partition=sent.partition, offset=sent.offset)
        except MessageSizeTooLargeError as error:
            raise Invalid(Reason.TOO_LARGE, "With its headers the clip is too large for a message; send less sound.") from error
        except (TimeoutError, KafkaTimeoutError) as error:
            # Sent or not, nobody knows: sent again it keeps its identity.
            raise Unavailable(f"The broker has not acknowledged it within {ACKNOWLEDGED_S:.0f} s; send it again.") from error
        except (KafkaError, OSError) as error:
            log.error("the producer is made anew: %r", error)
            self._spoilt.set()
            raise Unavailable("The broker did not take it; send it again.") from error
