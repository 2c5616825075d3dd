"""What the logs alone say: which clips were accepted, answered, refused, and what their answers are. No bodies are kept."""

from __future__ import annotations

from collections.abc import Mapping, Set
from dataclasses import dataclass, field
from typing import Any

from consumers.effects import counts_of, place_of
from consumers.files import Said, replaces, rows, said_by
from consumers.follow import read
from consumers.tour_recount import PROCESS as TOURS_GROUP
from soundscape.answers import stem_of
from soundscape.audio import sha256
from soundscape.events import ClipAnalysed, ClipDied, Place
from soundscape.kafka import committed, new_admin, new_consumer, read_all
from soundscape.settings import Settings
from soundscape.topics import CLIPS, DEAD_LETTERS, LANES, PREDICTIONS, RECORDINGS, group_of
from soundscape.wire import PREFIX, identity, texts

PROCESS = "audit"


@dataclass(frozen=True)
class Answer:
    """The effective answer of a clip: its latest record on `predictions`."""

    place: str
    counts: frozenset[str]
    """The COUNTS sets that the clip belongs to, and no others."""


@dataclass
class FileAnswer:
    """The answer that a watched file should have."""

    said: Said
    file_name: str
    digest: str
    """SHA-256 of the CSV; empty for a refusal."""


@dataclass
class Log:
    """The logs, recounted."""

    accepted: dict[str, list[str]] = field(default_factory=dict)
    """Clip id -> its latest place on each lane."""
    answers: dict[str, Answer] = field(default_factory=dict)
    dead: dict[str, str] = field(default_factory=dict)
    """Clip id -> place of its latest dead letter."""
    files: dict[str, FileAnswer] = field(default_factory=dict)
    """By stem."""
    committed: dict[tuple[str, int], int] = field(default_factory=dict)
    """(topic, partition) -> next offset that its lane's workers have committed."""
    read_to: dict[str, int] = field(default_factory=dict)
    """`topic:partition` -> one past the last record read."""

    def waits(self, clip: str) -> bool:
        """Whether some record of the clip lies where no worker has been yet."""
        return any(offset >= self.committed.get((topic, part), 0) for topic, part, offset in map(split, self.accepted[clip]))

    def knows(self, place: str) -> bool:
        """Whether that record was there when the logs were read."""
        topic, part, offset = split(place)
        return offset < self.read_to.get(f"{topic}:{part}", 0)


@dataclass(frozen=True)
class Tally:
    """The clips accepted, each in one of the four others."""

    accepted: int
    predicted: int
    dead: int
    waiting: tuple[str, ...]
    lost: dict[str, list[str]]
    """Clip id -> where it lies, its latest place on each lane."""


def tally(log: Log, unsummed: Set[str] = frozenset()) -> Tally:
    """Count. Dead is what died without an answer; lost is what a worker has passed and nobody spoke of.

    `unsummed` are clips whose answer their tour has yet to take in: they wait.
    """
    predicted = dead = 0
    waiting, lost = [], dict[str, list[str]]()
    for clip, places in log.accepted.items():
        if clip in log.answers and clip in unsummed:
            waiting.append(clip)
        elif clip in log.answers:
            predicted += 1
        elif clip in log.dead:
            dead += 1
        elif log.waits(clip):
            waiting.append(clip)
        else:
            lost[clip] = places
    return Tally(len(log.accepted), predicted, dead, tuple(waiting), lost)


def read_logs(settings: Settings) -> Log:
    """Read the logs, each up to its end at the time: lanes first, then the workers' commits, then what they said.

    In this order a clip whose place is committed has had its answer or dead letter on the log before we read there.
    Probe clips are left out. Raises Unavailable.
    """
    log, admin, consumer = Log(), new_admin(settings), new_consumer(settings)
    try:
        for record in read_all(consumer, [CLIPS.name, RECORDINGS.name]):
            _seen(log, record)
            _accept(log, record)
        for lane in LANES:
            log.committed |= committed(admin, group_of(lane))
        for record in read_all(consumer, [PREDICTIONS.name, DEAD_LETTERS.name]):
            _seen(log, record)
            if record.topic == PREDICTIONS.name:
                _answer(log, record, settings)
            else:
                _die(log, record)
    finally:
        consumer.close()
        admin.close()
    return log


def unsummed(settings: Settings, log: Log) -> set[str]:
    """Clips whose answer lies where the tours' process has not been yet; none where it has never run. Raises Unavailable."""
    admin = new_admin(settings)
    try:
        done = committed(admin, TOURS_GROUP)
    finally:
        admin.close()
    places = ((clip, *split(answer.place)) for clip, answer in log.answers.items())
    return {clip for clip, topic, part, offset in places if offset >= done.get((topic, part), 0)} if done else set()


def _seen(log: Log, record: Any) -> None:
    log.read_to[f"{record.topic}:{record.partition}"] = record.offset + 1


def _accept(log: Log, record: Any) -> None:
    named = texts(record.headers)
    if named.get(PREFIX + "probe") == "true":
        return
    place = Place(topic=record.topic, partition=record.partition, offset=record.offset)
    clip = identity(named, place)
    elsewhere = [one for one in log.accepted.get(clip, ()) if split(one)[:2] != (place.topic, place.partition)]
    log.accepted[clip] = [*elsewhere, str(place)]


def _answer(log: Log, record: Any, settings: Settings) -> None:
    event = read(PROCESS, ClipAnalysed, record)
    if event is None or event.probe:
        return
    log.answers[str(event.clip_id)] = Answer(place_of(record), counts_of(event))
    _file(log, event, texts(record.headers), settings)


def _die(log: Log, record: Any) -> None:
    event = read(PROCESS, ClipDied, record)
    if event is None or event.probe:
        return
    log.dead[event.clip_id] = place_of(record)
    _file(log, event, texts(record.headers), None)


def _file(log: Log, event: ClipAnalysed | ClipDied, headers: Mapping[str, str], settings: Settings | None) -> None:
    if not event.file_name:
        return
    stem, said = stem_of(event.file_name), said_by(event, dict(headers))
    before = log.files.get(stem)
    if replaces(said, before.said if before else None):
        csv = rows(event, settings.releases) if settings and isinstance(event, ClipAnalysed) else None
        log.files[stem] = FileAnswer(said, event.file_name, sha256(csv) if csv is not None else "")


def split(place: str) -> tuple[str, int, int]:
    """`topic:partition:offset` as its parts."""
    topic, part, offset = place.rsplit(":", 2)
    return topic, int(part), int(offset)
