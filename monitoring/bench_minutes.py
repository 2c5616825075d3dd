"""Recorded minutes on their way to a site, for the benchmarks."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from soundscape.settings import Settings

if TYPE_CHECKING:
    from monitoring.answers import Answers

RECORDERS = 8
"""Streams that the minutes come from."""


def publish_minutes(settings: Settings, site: str, sounds: Sequence[bytes], minutes: int) -> set[str]:
    """Publish so many recorded minutes, these sounds in turn, as fast as the broker acknowledges; returns their ids.

    The sounds are made beforehand: making eight takes seconds, in which a stream that is measured would have nothing to do.
    """
    from soundscape.audio import sha256
    from soundscape.events import MinuteRecorded, clip_id
    from soundscape.kafka import broker_errors, new_producer
    from soundscape.topics import RECORDINGS
    from soundscape.wire import encode

    digests = [sha256(sound) for sound in sounds]
    producer, now, sent, ids = new_producer(settings), datetime.now(UTC), [], set()
    with broker_errors():
        for n in range(minutes):
            recorder, moment, which = f"bench-{n % RECORDERS}", now + timedelta(minutes=n), n % len(sounds)
            event = MinuteRecorded.model_validate(
                {
                    "clip_id": clip_id(site, recorder, moment, digests[which]),
                    "site": site,
                    "stream": recorder,
                    "recorder": recorder,
                    "recorded_at": moment,
                    "sha256": digests[which],
                    "published_at": datetime.now(UTC),
                    "audio": sounds[which],
                }
            )
            message = encode(event)
            sent.append(producer.send(RECORDINGS.name, key=message.key, value=message.value, headers=message.headers))
            ids.add(str(event.clip_id))
        for one in sent:
            one.get(timeout=120)
        producer.close()
    return ids


def publish_and_read(settings: Settings, site: str, sounds: Sequence[bytes], minutes: int, answers: Answers) -> set[str]:
    """As `publish_minutes`, while answers are read. Raises what stopped the publishing."""
    with ThreadPoolExecutor(1) as pool:
        sending = pool.submit(publish_minutes, settings, site, sounds, minutes)
        while not sending.done():
            answers.read()
        return sending.result()
