"""A clip published again to the lane that it came from, under its own key and id: one that died, or one that was lost."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from consumers.recount import split
from soundscape.clip_reader import ClipReader
from soundscape.events import Place
from soundscape.kafka import new_producer, publish
from soundscape.settings import Settings
from soundscape.wire import Message, again


def send(settings: Settings, records: Iterable[tuple[str, Message]]) -> int:
    """Publish records to their topics, each acknowledged before the next is asked for; returns how many.

    Raises Unavailable; a second call is harmless: a clip's second answer takes the place of its first, and counts once.
    """
    producer, sent = new_producer(settings), 0
    try:
        for topic, message in records:
            publish(producer, topic, message)
            sent += 1
    finally:
        producer.close()
    return sent


def send_lost(settings: Settings, lost: Mapping[str, Sequence[str]]) -> int:
    """Send clips again whose records still lie on the log: ids, and the places of each; returns how many. Raises Unavailable."""
    if not lost:
        return 0
    with ClipReader(settings) as reader:
        return send(settings, _still_there(reader, lost))


def _still_there(reader: ClipReader, lost: Mapping[str, Sequence[str]]) -> Iterator[tuple[str, Message]]:
    for clip, places in lost.items():
        for topic, partition, offset in map(split, reversed(places)):
            place = Place(topic=topic, partition=partition, offset=offset)
            record = reader.record(place, clip)
            if record is not None:
                yield topic, again(clip, str(place), record.key, list(record.headers), record.value)
                break
