"""Recorded minutes on their way to a site, for the benchmarks."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from soundscape.settings import Settings

if TYPE_CHECKING:
    from monitoring.answers import Answers


def publish_minutes(settings: Settings, site: str, minutes: int) -> set[str]:
    """Publish recorded minutes as fast as the broker acknowledges; returns their ids."""
    from monitoring.sound import forest
    from soundscape.audio import sha256
    from soundscape.events import MinuteRecorded, clip_id
    from soundscape.kafka import broker_errors, new_producer
    from soundscape.topics import RECORDINGS
    from soundscape.wire import encode

    sounds = [forest(60.0, seed) for seed in range(8)]
    digests = [sha256(sound) for sound in sounds]
    producer, now, sent, ids = new_producer(settings), datetime.now(UTC), [], set()
    with broker_errors():
        for n in range(minutes):
            recorder, moment = f"bench-{n % 8}", now + timedelta(minutes=n)
            event = MinuteRecorded.model_validate(
                {
                    "clip_id": clip_id(site, recorder, moment, digests[n % 8]),
                    "site": site,
                    "stream": recorder,
                    "recorder": recorder,
                    "recorded_at": moment,
                    "sha256": digests[n % 8],
                    "published_at": datetime.now(UTC),
                    "audio": sounds[n % 8],
                }
            )
            message = encode(event)
            sent.append(producer.send(RECORDINGS.name, key=message.key, value=message.value, headers=message.headers))
            ids.add(str(event.clip_id))
        for one in sent:
            one.get(timeout=120)
        producer.close()
    return ids


def publish_and_read(settings: Settings, site: str, minutes: int, answers: Answers) -> set[str]:
    """Publish recorded minutes to a site while answers are read; their ids. Raises what stopped the publishing."""
    with ThreadPoolExecutor(1) as pool:
        sending = pool.submit(publish_minutes, settings, site, minutes)
        while not sending.done():
            answers.read()
        return sending.result()
