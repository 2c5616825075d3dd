"""What is known of samples and labels: read from the log, held in memory, without the sound, and built anew at every start."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime
from functools import cached_property
from typing import Any, Literal

from consumers.follow import read
from soundscape.audio import SAMPLE_RATE, WINDOW_S, window_starts
from soundscape.denied import DenyList
from soundscape.errors import Unavailable
from soundscape.events import ClipLabelled, ClipSampled, Place
from soundscape.judgements import standing_labels
from soundscape.topics import SAMPLES

PROCESS = "labeler"
Span = tuple[float, float]
"""Start and end of a window in seconds of its clip."""


@dataclass(frozen=True)
class Sample:
    """A clip worth a labeler's time; where its sound lies, not the sound."""

    clip_id: str
    site: str
    stream: str
    tour_id: str | None
    reasons: tuple[str, ...]
    place: Place
    """On `samples`."""
    answer_place: str | None
    start_s: float
    """Where its sound begins in the clip."""
    end_s: float | None
    recorder: str | None
    recorded_at: datetime | None
    sampled_at: datetime

    @property
    def stratum(self) -> Literal["random", "value"]:
        """`random` for every clip of the random sample, whatever else speaks for it: it is never offered for its value."""
        return "random" if "random" in self.reasons else "value"

    @cached_property
    def windows(self) -> tuple[Span, ...]:
        """Its windows in seconds of the clip; the first alone while its length is not known."""
        seconds = WINDOW_S if self.end_s is None else self.end_s - self.start_s
        starts = (self.start_s + start for start in window_starts(round(seconds * SAMPLE_RATE)))
        return tuple((start, start + WINDOW_S) for start in starts)

    @cached_property
    def rank(self) -> str:
        """Its place in the hash order: hex SHA-256 of the clip id."""
        return hashlib.sha256(self.clip_id.encode()).hexdigest()


def sample_of(event: ClipSampled, place: Place) -> Sample:
    """What is kept of a sample."""
    return Sample(
        clip_id=str(event.clip_id),
        site=event.site,
        stream=event.stream,
        tour_id=event.tour_id,
        reasons=tuple((event.reasons or event.reason).split(",")),
        place=place,
        answer_place=event.answer_place,
        start_s=event.start_s,
        end_s=event.end_s,
        recorder=event.recorder,
        recorded_at=event.recorded_at,
        sampled_at=event.sampled_at,
    )


class Shelf:
    """Samples by clip and labels by id, each as its latest record has it. Safe for several threads.

    What this process says itself is put here at once, with its offset, and read again from the log later: older records of the same
    thing change nothing.
    """

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self.ready = threading.Event()
        """Set once both topics were read to their ends: before that a labelled sample would be offered again."""
        self._clear()

    def _clear(self) -> None:
        self.ready.clear()
        self.positions: dict[str, int] = {}
        self._samples: dict[str, Sample] = {}
        self._moved: dict[str, int] = {}
        """Clip -> offset of its latest record on `samples`, a tombstone too."""
        self._labels: dict[str, tuple[int, ClipLabelled]] = {}
        self._of_clip: dict[str, set[str]] = {}
        self._denied = DenyList()

    def take(self, part: str, records: Iterable[Any]) -> None:
        """Take in what a partition holds next. Raises Unavailable where the topic was made anew: all is read again then."""
        with self._lock:
            for record in records:
                if record.offset < self.positions.get(part, 0):
                    self._clear()
                    raise Unavailable(f"Topic {record.topic} was made anew; reading all of it again.")
                self.positions[part] = record.offset + 1
                if record.topic != SAMPLES.name:
                    if (label := read(PROCESS, ClipLabelled, record)) is not None:
                        self.labelled(label, record.offset)
                elif record.value is None:
                    self.removed((record.key or b"").decode(errors="replace"), record.offset)
                elif (sample := read(PROCESS, ClipSampled, record)) is not None:
                    place = Place(topic=record.topic, partition=record.partition, offset=record.offset)
                    self.sampled(sample_of(sample, place))

    def sampled(self, sample: Sample) -> None:
        """Put a sample here, in the place of its older record."""
        with self._lock:
            if self._moved.get(sample.clip_id, -1) < sample.place.offset:
                self._moved[sample.clip_id] = sample.place.offset
                self._samples[sample.clip_id] = sample

    def removed(self, clip_id: str, offset: int) -> None:
        """Its tombstone lies at this offset."""
        with self._lock:
            if self._moved.get(clip_id, -1) < offset:
                self._moved[clip_id] = offset
                self._samples.pop(clip_id, None)

    def gone(self, sample: Sample) -> None:
        """Its sound is no longer where it lay, or cannot be heard: it is offered no more."""
        with self._lock:
            held = self._samples.get(sample.clip_id)
            if held is not None and held.place == sample.place:
                del self._samples[sample.clip_id]

    def measured(self, sample: Sample, seconds: float) -> None:
        """The sample's length, which its record does not say, now that its sound was read."""
        with self._lock:
            if self._samples.get(sample.clip_id) == sample:
                self._samples[sample.clip_id] = replace(sample, end_s=sample.start_s + seconds)

    def labelled(self, event: ClipLabelled, offset: int) -> None:
        """Put a label here, in the place of an older one of the same id."""
        with self._lock:
            if event.label_id in self._labels and self._labels[event.label_id][0] >= offset:
                return
            self._labels[event.label_id] = (offset, event)
            self._of_clip.setdefault(str(event.clip_id), set()).add(event.label_id)
            self._denied.apply(event)

    def sample(self, clip_id: str) -> Sample | None:
        """The sample of a clip, unless there is none or the clip is denied."""
        with self._lock:
            return None if clip_id in self._denied else self._samples.get(clip_id)

    def samples(self, site: str) -> list[Sample]:
        """All samples of a site that may be heard."""
        with self._lock:
            return [one for one in self._samples.values() if one.site == site and one.clip_id not in self._denied]

    def denied(self, clip_id: str) -> bool:
        """Whether nobody may hear the clip."""
        with self._lock:
            return clip_id in self._denied

    def denied_samples(self) -> list[Sample]:
        """Samples that still lie on the log though their clip is denied."""
        with self._lock:
            return [self._samples[clip] for clip in self._denied.clips() if clip in self._samples]

    def label(self, label_id: str) -> ClipLabelled | None:
        """The latest label of that id, a withdrawn one too."""
        with self._lock:
            found = self._labels.get(label_id)
            return found[1] if found else None

    def labels_of(self, clip_id: str) -> list[ClipLabelled]:
        """The standing labels of a clip, in the order of the log."""
        with self._lock:
            found = sorted((self._labels[label_id] for label_id in self._of_clip.get(clip_id, ())), key=lambda one: one[0])
        return standing_labels(event for _, event in found)

    def labels(self, site: str | None = None) -> list[ClipLabelled]:
        """All standing labels, of one site or of all."""
        with self._lock:
            clips = list(self._of_clip)
        standing = [event for clip in clips for event in self.labels_of(clip)]
        return [event for event in standing if site in (None, event.site)]
