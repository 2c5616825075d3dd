"""The sampler's process: follows what is sampled and what is denied, and hands each answer and each flag to the chooser."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

from soundscape.denied import DenyList
from soundscape.errors import Invalid, Unavailable
from soundscape.events import ClipAnalysed, ClipLabelled, ClipSampled, FeedbackGiven, Place
from soundscape.isolation import ChildPool
from soundscape.metrics import SAMPLE_LAG, SAMPLE_LAG_SHARE, UNREADABLE
from soundscape.settings import Port, Settings
from soundscape.topics import DAY_MS, FEEDBACK, LABELS, LANES, PREDICTIONS, SAMPLES
from soundscape.wire import Headers, decode
from stream_processors.frame import StreamProcess, run
from stream_processors.safe import RETRY_S
from stream_processors.sample_choose import Chooser
from stream_processors.sample_cut import warm_up
from stream_processors.sample_follow import follow
from stream_processors.sample_known import Sampled, Samples

log = logging.getLogger(__name__)

GROUP = "sample"
NAME = f"{GROUP}-0"
TOPICS = (PREDICTIONS, FEEDBACK)
MEASURE_S = 1.0
"""Seconds between two looks at the oldest record that is not done."""


class Sampler(StreamProcess):
    """One process, and only one: a day's quotas and a clip's reasons live in its memory, rebuilt from `samples` when it starts."""

    def __init__(self, settings: Settings) -> None:
        self._children = ChildPool(1, warm_up)
        self._samples, self._denied = Samples(settings.sample_quota), DenyList()
        self._samples_read, self._labels_read, self._warm = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self._chooser = Chooser(settings, self._samples, self._denied, self._children, self.publish)
        self._begun: dict[Place, tuple[str, datetime]] = {}
        """Records that are not done: the topic where their sound lies, and when they were said."""
        self._waits: dict[Place, str] = {}
        super().__init__(GROUP, NAME, settings.port(Port.SAMPLE), TOPICS, settings)

    async def prepare(self) -> None:
        """Read what is sampled, then follow the labels for ever; no sample is chosen before both are known."""
        await asyncio.gather(self._start(), self._follow(), self._watch_age())

    async def _start(self) -> None:
        await asyncio.gather(self._children.run(os.getpid), return_exceptions=True)
        self._warm.set()

    async def _follow(self) -> None:
        await follow(self.settings, SAMPLES, self._take_sample, self._samples_read, on=False)
        await follow(self.settings, LABELS, self._take_label, self._labels_read)

    def _take_sample(self, record: Any) -> None:
        clip = (record.key or b"").decode(errors="replace")
        try:
            self._samples.put(clip, None if record.value is None else Sampled.of(decode(ClipSampled, record.headers, b"")))
        except Invalid as error:
            self._unreadable(record.topic, record.partition, record.offset, error)

    def _take_label(self, record: Any) -> None:
        try:
            label = decode(ClipLabelled, record.headers, record.value)
        except Invalid as error:
            self._unreadable(record.topic, record.partition, record.offset, error)
            return
        self._denied.apply(label)
        if label.verdict == "speech":
            self._samples.put(str(label.clip_id), None)  # the labeler's page removes it

    async def handle(self, place: Place, key: bytes | None, headers: Headers, value: bytes | None) -> None:
        """Sample the record's clip, or not."""
        try:
            event: ClipAnalysed | FeedbackGiven
            answered = place.topic == PREDICTIONS.name
            event = decode(ClipAnalysed, headers, value) if answered else decode(FeedbackGiven, headers, value)
        except Invalid as error:
            self._unreadable(place.topic, place.partition, place.offset, error)
            return
        with self._in_flight(place, event):
            await asyncio.gather(self._samples_read.wait(), self._labels_read.wait(), self._warm.wait())
            found = None
            for attempt in range(10**9):
                try:
                    found = found or await self._chooser.reasons(place, event)
                    if found:
                        await self._chooser.sample(found)
                except Unavailable as error:
                    self._waits[place] = str(error)
                    await asyncio.sleep(RETRY_S[min(attempt, len(RETRY_S) - 1)])
                else:
                    return

    @contextmanager
    def _in_flight(self, place: Place, event: ClipAnalysed | FeedbackGiven) -> Iterator[None]:
        if isinstance(event, ClipAnalysed):
            self._begun[place] = event.place.topic, event.stages.predicted
        else:
            self._begun[place] = event.clip_place.topic, event.given_at
        try:
            yield
        finally:
            self._begun.pop(place, None)
            self._waits.pop(place, None)

    async def _watch_age(self) -> None:
        """The records in flight are the oldest of their partitions, since each partition is read one by one."""
        while True:
            now = datetime.now(UTC)
            for topic in LANES.values():
                age = max(((now - said).total_seconds() for name, said in self._begun.values() if name == topic.name), default=0.0)
                SAMPLE_LAG.labels(topic.name).set(age)
                if topic.retention_days:
                    SAMPLE_LAG_SHARE.labels(topic.name).set(min(1.0, age * 1000 / (topic.retention_days * DAY_MS)))
            await asyncio.sleep(MEASURE_S)

    def _unreadable(self, topic: str, partition: int, offset: int, error: Invalid) -> None:
        UNREADABLE.labels(NAME, topic).inc()
        log.error("%s:%d:%d passed over: %s", topic, partition, offset, error)

    def waiting(self) -> str:
        """Why records wait."""
        return next(iter(self._waits.values()), "")

    def not_yet(self) -> dict[str, bool]:
        """Decoder, samples and labels come first."""
        return {
            "starting the decoder": not self._warm.is_set(),
            "reading samples": not self._samples_read.is_set(),
            "reading labels": not self._labels_read.is_set(),
        }

    def report(self) -> dict[str, Any]:
        """How many clips are sampled, and how many denied."""
        return {"sampled": len(self._samples), "denied": len(self._denied)}


def main() -> None:
    """Run the sampler until it is told to stop."""
    run(Sampler, TOPICS)
