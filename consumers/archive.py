"""The archive: predictions, corrections and tours as Parquet by day, for the years that ecologists need and topics do not last."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

from consumers.archive_ledger import Ledger, Said
from consumers.archive_rows import SAID, Answer, Row, answer_of, corrected, feedback_row, label_row, tour_day, tour_row
from consumers.archive_tables import read_day, write_day
from consumers.follow import RETRY_S, Follower, Pulse, persist, read
from soundscape.answers import sweep
from soundscape.errors import Unavailable
from soundscape.events import ClipAnalysed, ClipLabelled, FeedbackGiven, TourSummed
from soundscape.health import serve_health
from soundscape.logs import set_up_logging
from soundscape.settings import Port, Settings, get_settings
from soundscape.topics import FEEDBACK, LABELS, PREDICTIONS, TOURS

PROCESS = "archive"
ARCHIVE_TOPICS = (PREDICTIONS, FEEDBACK, LABELS, TOURS)
"""What it follows."""
FLUSH_RECORDS = 2000
"""Records after which files are written: a day's file is written anew for each batch that touches it."""
FLUSH_S = 10.0
"""Seconds after which they are written, however few."""


@dataclass
class Batch:
    """What has come since the files were last written: the last word on each thing."""

    answers: dict[str, Answer] = field(default_factory=dict)
    said: list[Said] = field(default_factory=list)
    tours: dict[str, TourSummed] = field(default_factory=dict)
    positions: dict[str, int] = field(default_factory=dict)
    records: int = 0

    def take(self, part: str, records: list[Any]) -> None:
        """Add records of one partition, in their order. Probe clips are archived nowhere."""
        for record in records:
            if record.topic == PREDICTIONS.name:
                answer = read(PROCESS, ClipAnalysed, record)
                if answer is not None and not answer.probe:
                    place = f"{record.topic}:{record.partition}:{record.offset}"
                    self.answers[str(answer.clip_id)] = answer_of(answer, place)
            elif record.topic == TOURS.name:
                tour = read(PROCESS, TourSummed, record) if record.value is not None else None
                if tour is not None:
                    self.tours[tour.tour_id] = tour
            else:
                kind: type[Said] = FeedbackGiven if record.topic == FEEDBACK.name else ClipLabelled
                event: Said | None = read(PROCESS, kind, record)
                if event is not None:
                    self.said.append(event)
        self.records += len(records)
        self.positions[part] = records[-1].offset + 1


class Archive:
    """The files of the archive and their ledger.

    Files first, then the ledger, which holds the positions: a process killed between the two reads its last batch again, and since every
    row has its key, the files come out the same.
    """

    def __init__(self, folder: Path, ledger: Ledger) -> None:
        self._folder, self._ledger = folder, ledger

    def write(self, batch: Batch) -> None:
        """Write what a batch changes. Raises OSError, sqlite3.Error; the same batch may be written again."""
        self._set_aside({str(event.clip_id) for event in batch.said if event.verdict == "speech"})
        ledger = self._ledger
        with ledger.transaction():
            changed: dict[str, set[date]] = {"labels": set(), "feedback": set(), "tours": set()}
            for event in batch.said:
                kind, at = ("labels", event.labelled_at) if isinstance(event, ClipLabelled) else ("feedback", event.given_at)
                changed[kind] |= ledger.say(kind, event, at.date())
            judged = {str(event.clip_id) for event in batch.said}
            denied = ledger.denied(judged | batch.answers.keys())
            answers = self._answers(batch, judged, denied)
            days = {day for clip_id in judged if (day := ledger.day_of(clip_id))}
            for clip_id, answer in answers.items():
                days |= {day for day in (ledger.day_of(clip_id), answer.day) if day}
                ledger.put_day(clip_id, answer.day)
            for day in sorted(days):
                self._write_clips(day, answers, denied)
            for clip_id in judged:
                for kind, day in ledger.days_of_said(clip_id):
                    changed[kind].add(day)
            for tour in batch.tours.values():
                changed["tours"] |= ledger.put_tour(tour, tour_day(tour))
            for day in changed["tours"]:
                write_day(self._folder, "tours", day, [tour_row(tour) for tour in ledger.tours_on(day)])
            for kind in ("labels", "feedback"):
                for day in changed[kind]:
                    self._write_said(kind, day)
            ledger.move(batch.positions)

    def _answers(self, batch: Batch, judged: set[str], denied: set[str]) -> dict[str, Answer]:
        """The batch's answers, those of denied clips withheld, with those that were withheld for a voice that was none."""
        answers = dict(batch.answers)
        for clip_id in judged - denied:
            if (kept := self._ledger.withheld(clip_id)) is not None:
                answers.setdefault(clip_id, kept)
                self._ledger.release(clip_id)
        for clip_id in denied & answers.keys():
            self._ledger.withhold(clip_id, answers[clip_id])
        return answers

    def _set_aside(self, clip_ids: set[str]) -> None:
        """Keep what the files hold of clips that are about to go from them, before they go."""
        with self._ledger.transaction():
            for clip_id in clip_ids:
                if (day := self._ledger.day_of(clip_id)) is None:
                    continue
                clips, heard = self._read_clips(day)
                if clip_id in clips:
                    self._ledger.withhold(clip_id, Answer(day, clips[clip_id], heard.get(clip_id, [])))

    def _read_clips(self, day: date) -> tuple[dict[str, Row], dict[str, list[Row]]]:
        """A day's clips, and their detections as releases gave them."""
        clips = {row["clip_id"]: row for row in read_day(self._folder, "clips", day)}
        heard: dict[str, list[Row]] = {}
        for row in read_day(self._folder, "detections", day):
            if row["status"] != SAID:
                heard.setdefault(row["clip_id"], []).append(row)
        return clips, heard

    def _write_clips(self, day: date, answers: dict[str, Answer], denied: set[str]) -> None:
        """A day's clips and detections: what is stored, the new answers, and what people say of them now."""
        clips, heard = self._read_clips(day)
        for clip_id, answer in answers.items():
            clips.pop(clip_id, None)
            heard.pop(clip_id, None)
            if answer.day == day:
                clips[clip_id], heard[clip_id] = answer.clip, answer.detections
        for clip_id in denied:
            clips.pop(clip_id, None)
        said = self._ledger.said_of_clips(day)
        detections = []
        for clip_id, clip in clips.items():
            words = said.get(clip_id, [])
            labels = [event for event in words if isinstance(event, ClipLabelled)]
            feedback = [event for event in words if isinstance(event, FeedbackGiven)]
            detections += corrected(clip, heard.get(clip_id, []), labels, feedback)
        write_day(self._folder, "clips", day, list(clips.values()))
        write_day(self._folder, "detections", day, detections)

    def _write_said(self, kind: str, day: date) -> None:
        events = list(self._ledger.said_on(kind, day))
        denied = self._ledger.denied(str(event.clip_id) for event in events)
        rows = [
            label_row(event) if isinstance(event, ClipLabelled) else feedback_row(event)
            for event in events
            if str(event.clip_id) not in denied
        ]
        write_day(self._folder, kind, day, rows)


def archive_folder(settings: Settings) -> Path:
    """Where the tables lie."""
    return settings.root / "archive"


def ledger_path(settings: Settings) -> Path:
    """Where the ledger lies. Without it the archive reads the log anew; days that the log no longer holds stay as they are."""
    return settings.state / "archive.sqlite"


def follow(
    follower: Follower,
    ledger: Ledger,
    archive: Archive,
    pulse: Pulse,
    flush_s: float = FLUSH_S,
    until: Callable[[], bool] = lambda: False,
) -> None:
    """Write what comes, until told otherwise. Raises Unavailable."""
    follower.seek(ledger.positions())
    batch, since = Batch(), time.monotonic()
    while not until():
        for part, records in follower.batches():
            if not batch.records:
                since = time.monotonic()
            batch.take(part, records)
        if batch.records >= FLUSH_RECORDS or (batch.records and time.monotonic() >= since + flush_s):
            _until_written(archive, batch, pulse)
            batch = Batch()
        if (lag := follower.measure()) is not None:
            pulse.beat(lag)


def _until_written(archive: Archive, batch: Batch, pulse: Pulse) -> None:
    while True:
        try:
            archive.write(batch)
            return
        except (OSError, sqlite3.Error) as error:
            pulse.fail(f"The archive cannot be written ({error}); trying again every {RETRY_S:g} s, nothing is lost.")
            time.sleep(RETRY_S)


def main() -> None:
    """Run it."""
    set_up_logging()
    settings, pulse = get_settings(), Pulse()
    serve_health(settings.port(Port.ARCHIVE), pulse)

    def run() -> None:
        folder = archive_folder(settings)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            for day in folder.glob("*/day=*"):
                sweep(day)
            ledger = Ledger(ledger_path(settings))
        except (OSError, sqlite3.Error) as error:
            raise Unavailable(f"The data folder cannot be written ({error}).") from error
        try:
            with Follower(settings, PROCESS, ARCHIVE_TOPICS) as follower:
                follow(follower, ledger, Archive(folder, ledger), pulse)
        finally:
            ledger.close()

    persist(run, pulse)


if __name__ == "__main__":
    main()
