"""The labeler's hands on the log: a sample's sound and its answer by their places, labels and tombstones out."""

from __future__ import annotations

import threading
import time
from typing import Any

from kafka import KafkaConsumer, KafkaProducer, TopicPartition

from consumers.labeler.shelf import PROCESS, Sample
from soundscape.errors import Invalid, Unavailable
from soundscape.events import ClipAnalysed, ClipLabelled, ClipSampled, Place
from soundscape.kafka import LIMIT_S, abandon, broker_errors, new_consumer, new_producer, say
from soundscape.settings import Settings
from soundscape.topics import LABELS, PREDICTIONS, SAMPLES
from soundscape.wire import decode

READ_S = 10.0
"""Seconds that a record may take to come: one fetch takes milliseconds."""


class Log:
    """One consumer and one producer, each used by one thread at a time and made anew after an error."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._reading, self._writing = threading.Lock(), threading.Lock()
        self._consumer: KafkaConsumer | None = None
        self._producer: KafkaProducer | None = None

    def sound(self, sample: Sample) -> bytes | None:
        """The OGG of a sample, or None where its record is gone or is another clip's. Raises Unavailable."""
        record = self._record(sample.place)
        if record is None or not record.value:
            return None
        try:
            event = decode(ClipSampled, record.headers, record.value)
        except Invalid:
            return None
        return event.audio if str(event.clip_id) == sample.clip_id else None

    def answer(self, sample: Sample) -> ClipAnalysed | None:
        """The answer that the sample was chosen by, or None where it is gone or is another clip's. Raises Unavailable."""
        place = place_of(sample.answer_place)
        record = self._record(place) if place else None
        if record is None:
            return None
        try:
            event = decode(ClipAnalysed, record.headers, record.value)
        except Invalid:
            return None
        return event if str(event.clip_id) == sample.clip_id else None

    def label(self, event: ClipLabelled) -> int:
        """Publish a label; returns its offset. Raises Unavailable."""
        return self._write(lambda producer: int(say(producer, LABELS, event).offset))

    def forget(self, clip_id: str) -> int:
        """Publish the tombstone of a sample, so that compaction removes its sound; returns its offset. Raises Unavailable."""

        def bury(producer: KafkaProducer) -> int:
            with broker_errors():
                return int(producer.send(SAMPLES.name, key=clip_id.encode(), value=None).get(timeout=LIMIT_S).offset)

        return self._write(bury)

    def close(self) -> None:
        """End both."""
        with self._reading, self._writing:
            if self._consumer is not None:
                self._consumer.close()
            if self._producer is not None:
                abandon(self._producer)
            self._consumer = self._producer = None

    def _write(self, send: Any) -> int:
        with self._writing:
            self._producer = self._producer or new_producer(self._settings)
            try:
                offset: int = send(self._producer)
                return offset
            except Unavailable:
                abandon(self._producer)
                self._producer = None
                raise

    def _record(self, place: Place) -> Any:
        """The record that lies at a place, or None where there is none any more. Raises Unavailable."""
        part = TopicPartition(place.topic, place.partition)
        with self._reading:
            self._consumer = self._consumer or new_consumer(self._settings, client_id=PROCESS, max_poll_records=1)
            try:
                with broker_errors():
                    return _read_at(self._consumer, part, place.offset)
            except Unavailable:
                self._consumer.close()
                self._consumer = None
                raise


def _read_at(consumer: KafkaConsumer, part: TopicPartition, offset: int) -> Any:
    consumer.assign([part])
    if not consumer.beginning_offsets([part])[part] <= offset < consumer.end_offsets([part])[part]:
        return None
    consumer.seek(part, offset)
    deadline = time.monotonic() + READ_S
    while time.monotonic() < deadline:
        for record in consumer.poll(200).get(part, ()):
            return record if record.offset == offset else None  # a later one: compaction took it
        if (consumer.position(part, timeout_ms=LIMIT_S * 1000) or 0) > offset:
            return None
    raise Unavailable(f"The broker did not send {part.topic}:{part.partition}:{offset} within {READ_S:g} s; try again.")


def place_of(text: str | None) -> Place | None:
    """`topic:partition:offset` as a place on `predictions`; None for anything else."""
    topic, _, rest = (text or "").partition(":")
    partition, _, offset = rest.partition(":")
    if topic != PREDICTIONS.name or not (partition.isdecimal() and offset.isdecimal()) or int(partition) >= PREDICTIONS.partitions:
        return None
    return Place(topic=topic, partition=int(partition), offset=int(offset))
