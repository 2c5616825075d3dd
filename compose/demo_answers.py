"""The answers to what the demo streams, followed on the log as they come, and what can be told from them."""

from __future__ import annotations

import csv
import io
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from kafka import TopicPartition

from soundscape.answers import write_whole
from soundscape.audio import WINDOW_S
from soundscape.errors import Invalid, Unavailable
from soundscape.events import ClipAnalysed, ClipDied
from soundscape.kafka import broker_errors, new_consumer
from soundscape.settings import Settings
from soundscape.taxonomy import Species
from soundscape.topics import DEAD_LETTERS, LANE_OF, PREDICTIONS
from soundscape.wire import decode

STAGES = {
    "received": "waiting on the log",
    "decoded": "decoding",
    "features": "log-mels",
    "inferred": "inference",
    "predicted": "fusing, deciding",
}
"""Each stage of a clip's way by the moment that ends it, in order, from `published`."""


class Answers:
    """Predictions and dead letters from now on, by clip id: none is missed, because the ends are noted before anything is sent."""

    def __init__(self, settings: Settings) -> None:
        """Raises Unavailable."""
        self.predicted: dict[str, ClipAnalysed] = {}
        self.dead: dict[str, ClipDied] = {}
        self._consumer = new_consumer(settings)
        with broker_errors():
            parts = [TopicPartition(topic.name, n) for topic in (PREDICTIONS, DEAD_LETTERS) for n in range(topic.partitions)]
            self._consumer.assign(parts)
            for part, end in self._consumer.end_offsets(parts).items():
                self._consumer.seek(part, end)

    def poll(self, wait_s: float = 0.2) -> int:
        """Take in what has come, without what does not decode; returns how many records. Raises Unavailable."""
        with broker_errors():
            batches = self._consumer.poll(int(wait_s * 1000))
        records = [record for batch in batches.values() for record in batch]
        for record in records:
            with suppress(Invalid):
                self._take(record)
        return len(records)

    def _take(self, record: Any) -> None:
        if record.topic == PREDICTIONS.name:
            answer = decode(ClipAnalysed, record.headers, record.value)
            self.predicted[str(answer.clip_id)] = answer
        else:
            died = decode(ClipDied, record.headers, record.value)
            self.dead[died.clip_id] = died

    def missing(self, clips: Iterable[str]) -> list[str]:
        """The clips that have neither."""
        return [clip for clip in clips if clip not in self.predicted and clip not in self.dead]

    def wait_for(self, clips: Sequence[str], patience_s: float, progress: Callable[[int, int], None]) -> None:
        """Wait until each clip has its answer; `progress(answered, all)` is called meanwhile.

        Raises Unavailable if none comes for `patience_s`.
        """
        moved_at = time.monotonic()
        while missing := self.missing(clips):
            if self.poll():
                moved_at = time.monotonic()
            progress(len(clips) - len(missing), len(clips))
            if time.monotonic() > moved_at + patience_s:
                raise Unavailable(f"{len(missing)} clips had no answer after {patience_s:.0f} s without any; see `soundscape status`.")
        progress(len(clips), len(clips))

    def close(self) -> None:
        """End the connection."""
        self._consumer.close()


@dataclass(frozen=True)
class Streamed:
    """What a simulation said that it sent: clip id to stem, and the truth by row_id where it is known."""

    stems: dict[str, str]
    truth: dict[str, frozenset[str]]


def read_streamed(folder: Path) -> Streamed:
    """What `soundscape simulate --truth` wrote. Raises OSError."""
    stems = {row["clip_id"]: row["stem"] for row in _read(folder / "clips.csv")}
    return Streamed(stems, {row["row_id"]: frozenset(row["labels"].split()) for row in _read(folder / "soundscape_labels.csv")})


def write_rows(folder: Path, streamed: Streamed, answers: Mapping[str, ClipAnalysed]) -> int:
    """Write the answers as `row_id` CSVs, one STEM.csv a recording, as `results` writes those of watched files; how many rows."""
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob("*.csv"):
        old.unlink()
    count = 0
    for clip, stem in streamed.stems.items():
        if (answer := answers.get(clip)) is None:
            continue
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(["row_id", *answer.labels])
        for window in answer.windows:
            writer.writerow([row_id(stem, window.start_s), *(f"{score:.6g}" for score in window.scores)])
            count += 1
        write_whole(folder / f"{stem}.csv", text.getvalue().encode())
    return count


def row_id(stem: str, start_s: float) -> str:
    """STEM_ENDSECOND of the window that begins there."""
    return f"{stem}_{round(start_s + WINDOW_S)}"


@dataclass
class Tally:
    """Rows of five seconds of one species: where it was, where it was heard, and where both."""

    there: int = 0
    heard: int = 0
    both: int = 0


@dataclass
class Heard:
    """What was there and what was heard, by label."""

    by_label: dict[str, Tally] = field(default_factory=lambda: defaultdict(Tally))
    rows: int = 0


def compare(streamed: Iterable[Streamed], answers: Mapping[str, ClipAnalysed]) -> Heard:
    """Each row's truth beside the detections of its window."""
    found = Heard()
    for one in streamed:
        for clip, stem in one.stems.items():
            if (answer := answers.get(clip)) is None:
                continue
            for window in answer.windows:
                there = one.truth.get(row_id(stem, window.start_s), frozenset())
                heard = {d.label for d in answer.detections if d.start_s < window.end_s and d.end_s > window.start_s}
                found.rows += 1
                for label in there | heard:
                    tally = found.by_label[label]
                    tally.there += label in there
                    tally.heard += label in heard
                    tally.both += label in there and label in heard
    return found


def names_of(release_species: Sequence[Species]) -> dict[str, Species]:
    """Species by label."""
    return {one.label: one for one in release_species}


def latencies(answers: Iterable[ClipAnalysed]) -> dict[str, dict[str, tuple[float, float]]]:
    """Milliseconds by lane and stage, (median, 95th percentile); `all` is from publishing to prediction."""
    spent: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for answer in answers:
        lane, stages = spent[LANE_OF[answer.place.topic]], answer.stages
        for before, after in pairwise(("published", *STAGES)):
            lane[after].append((getattr(stages, after) - getattr(stages, before)).total_seconds() * 1000)
        lane["all"].append((stages.predicted - stages.published).total_seconds() * 1000)
    return {
        lane: {stage: (float(np.median(ms)), float(np.percentile(ms, 95))) for stage, ms in stages.items()}
        for lane, stages in spent.items()
    }


def _read(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))
