"""Whether a deployment has arrived: every worker reports its generation, and a probe clip in each lane is answered by it."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Any

import numpy as np
from kafka import KafkaProducer, TopicPartition

from consumers.workers import behind
from soundscape.audio import SAMPLE_RATE, WINDOW_S, encode_ogg, sha256
from soundscape.errors import Unavailable
from soundscape.events import ClipAnalysed, ClipRecorded, MinuteRecorded, SiteDeployed, clip_id
from soundscape.kafka import broker_errors, new_consumer, publish
from soundscape.settings import Settings
from soundscape.topics import LANES, PREDICTIONS
from soundscape.wire import PREFIX, decode, encode, texts

WAIT_S = 180.0
"""Seconds that a deployment waits for the workers and for its probe clips."""


def confirm(settings: Settings, producer: KafkaProducer, state: SiteDeployed) -> None:
    """Return when the deployment has arrived. Raises Unavailable that names who did not report within WAIT_S."""
    deadline = time.monotonic() + WAIT_S
    while missing := behind(settings, state.site, state.generation):
        if time.monotonic() > deadline:
            raise Unavailable(f"Generation {state.generation} is committed, but {', '.join(missing)} did not report it.")
        time.sleep(0.2)
    consumer = new_consumer(settings)
    try:
        with broker_errors():
            parts = [TopicPartition(PREDICTIONS.name, n) for n in range(PREDICTIONS.partitions)]
            consumer.assign(parts)
            consumer.seek_to_end(*parts)
            for part in parts:
                consumer.position(part)  # the ends must be known before the clips go out
            waiting = {send(producer, lane, state.site): lane for lane in LANES}
            _read_answers(consumer, state, waiting, deadline)
    finally:
        consumer.close()


def _read_answers(consumer: Any, state: SiteDeployed, waiting: dict[str, str], deadline: float) -> None:
    while waiting:
        if time.monotonic() > deadline:
            raise Unavailable(
                f"Generation {state.generation} is committed, but the {' and '.join(waiting.values())} lane has not answered its "
                "probe clip yet; `soundscape status` says what it waits for."
            )
        for records in consumer.poll(200).values():
            for record in records:
                if texts(record.headers).get(PREFIX + "clipid") in waiting:
                    answer = decode(ClipAnalysed, record.headers, record.value)
                    if answer.release_digest == state.champion.digest or answer.generation > state.generation:
                        del waiting[str(answer.clip_id)]


def send(producer: KafkaProducer, lane: str, site: str) -> str:
    """Publish a quiet clip that is counted nowhere; returns its id."""
    noise = np.random.default_rng(0).normal(0.0, 0.01, int(WINDOW_S * SAMPLE_RATE)).astype(np.float32)
    body, now, stream = encode_ogg(noise), datetime.now(UTC), f"probe-{lane}"
    digest = sha256(body)
    kind = ClipRecorded if lane == "live" else MinuteRecorded
    fields = {"site": site, "stream": stream, "sha256": digest, "recorded_at": now, "published_at": now, "probe": True, "audio": body}
    event = kind.model_validate({"clip_id": clip_id(site, stream, now, digest), **fields})
    publish(producer, LANES[lane].name, encode(event))
    return str(event.clip_id)
