"""Which stretch of the log a replay reads: by time or by offset, bounded by the ends at its start, and what of it is gone."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from kafka import TopicPartition
from pydantic import NonNegativeInt, TypeAdapter, ValidationError

from soundscape.errors import Invalid, Reason, Unavailable
from soundscape.kafka import LIMIT_S, broker_errors

Offsets = dict[str, dict[int, int]]
"""Topic -> partition -> offset."""
Bound = datetime | Offsets | None
"""A moment on the log (when a record was published, not when its sound was recorded), offsets, or no bound at all."""

_PLACE = re.compile(r"^(?P<topic>[A-Za-z][A-Za-z0-9._-]{0,199}):(?P<partition>\d{1,9}):(?P<offset>\d{1,18})$")
_OFFSETS: TypeAdapter[Offsets] = TypeAdapter(dict[str, dict[NonNegativeInt, NonNegativeInt]])
MAX_FILE_BYTES = 1_000_000
"""Of a file of offsets; a manifest has some kilobytes."""


@dataclass(frozen=True)
class Removed:
    """What retention has removed of a range on one topic."""

    topic: str
    partitions: int
    """How many of them lost some."""
    records: int | None
    """At most so many were in the range; None where the range is by time: nobody knows any more how many there were."""
    since: datetime | None
    """The first record that is still there, of those partitions; None if there is none."""

    def __str__(self) -> str:
        what = "records" if self.records is None else f"{self.records} records"
        still = f"; the first that is still there is of {self.since:%Y-%m-%d %H:%M:%S} UTC" if self.since else ""
        return f"Retention has removed {what} of the range from {self.topic} ({self.partitions} partitions){still}."


@dataclass(frozen=True)
class Span:
    """A range with exact offsets: from `start` up to, and without, `end`."""

    start: Offsets
    end: Offsets
    removed: tuple[Removed, ...] = ()
    since: datetime | None = None
    """The moment that the range was asked to begin at, if it was by time."""
    beginning: Offsets = field(default_factory=dict)
    """The first offset that the log still holds."""
    asked: Offsets = field(default_factory=dict)
    """Where the range begins, whether that is still there or not."""

    @property
    def records(self) -> int:
        """How many there are to read, at most."""
        return sum(end - self.start[topic][part] for topic, parts in self.end.items() for part, end in parts.items())

    def holds(self, topic: str, partition: int, offset: int, moment: datetime) -> bool:
        """Whether what lies, or once lay, at this place belongs to the range.

        What is gone from a range by time is judged by `moment`, since its offset says no time any more.
        """
        start, end = self.asked.get(topic, {}).get(partition), self.end.get(topic, {}).get(partition)
        if start is None or end is None:
            return False
        if offset < self.beginning[topic][partition] and self.since is not None:
            return self.since <= moment
        return start <= offset < end


def parse_bound(texts: Sequence[str], file: Path | None, key: str) -> Bound:
    """A bound from the command line: a moment in ISO form (UTC unless it says otherwise), places, or a file of offsets.

    `key` is what the file's offsets are called in a manifest (`from`, `to`); a file that is a bare map of offsets will do too.
    Raises Invalid.
    """
    if texts and file:
        raise _invalid(f"give --{key} or --{key}-offsets, not both")
    if file:
        return _read(file, key)
    if not texts:
        return None
    places = [found for text in texts if (found := _PLACE.match(text))]
    if len(places) == len(texts):
        offsets: Offsets = {}
        for one in places:
            offsets.setdefault(one["topic"], {})[int(one["partition"])] = int(one["offset"])
        return offsets
    if len(texts) > 1:
        raise _invalid(f"--{key} takes one moment, or places (TOPIC:PARTITION:OFFSET), as many as wanted")
    try:
        moment = datetime.fromisoformat(texts[0])
    except ValueError as error:
        raise _invalid(f"--{key} {texts[0]!r} is neither a moment like 2026-03-01T06:00 nor a place TOPIC:PARTITION:OFFSET") from error
    moment = moment.replace(tzinfo=moment.tzinfo or UTC).astimezone(UTC)
    if moment.timestamp() < 0:
        raise _invalid(f"--{key} {texts[0]!r} lies before 1970")
    return moment


def resolve(consumer: Any, topics: Sequence[str], since: Bound, until: Bound) -> Span:
    """The exact offsets of a range, up to the ends of now.

    With offsets as a bound, only the partitions that a bound names take part. Raises Invalid (bad-request) where the range is empty,
    inverted, or beyond the log; Unavailable without a broker.
    """
    if isinstance(since, datetime) and isinstance(until, datetime) and until <= since:
        raise _invalid(f"the range is inverted: it ends at {until.isoformat()}, before it begins ({since.isoformat()})")
    named = {(t, p) for bound in (since, until) if isinstance(bound, dict) for t, parts in bound.items() if t in topics for p in parts}
    with broker_errors():
        there = {(topic, n) for topic in topics for n in consumer.partitions_for_topic(topic) or ()}
        if missing := sorted(set(topics) - {topic for topic, _ in there}):
            raise Unavailable(f"Topic {missing[0]} is not there yet; `soundscape topics apply` makes it.")
        if unknown := sorted(named - there):
            raise _invalid(f"{unknown[0][0]} has no partition {unknown[0][1]}")
        by_offset = isinstance(since, dict) or isinstance(until, dict)
        if by_offset and not named:
            raise _invalid(f"the offsets name no partition of {', '.join(topics)}")
        parts = [TopicPartition(*one) for one in sorted(named if by_offset else there)]
        limit = LIMIT_S * 1000
        beginning, ends = consumer.beginning_offsets(parts, timeout_ms=limit), consumer.end_offsets(parts, timeout_ms=limit)
        first = consumer.offsets_for_times(dict.fromkeys(parts, 0), timeout_ms=limit)
        start = _offsets(consumer, parts, since, beginning, ends)
        end = _offsets(consumer, parts, until, ends, ends)
    for part in parts:
        if start[part] > ends[part]:
            raise _invalid(f"the range lies beyond the log: {part.topic}:{part.partition} ends at {ends[part]}")
        if start[part] > end[part]:
            if isinstance(since, dict) and isinstance(until, dict):
                raise _invalid(f"the range is inverted: on {part.topic}:{part.partition} it ends at {end[part]}, before {start[part]}")
            end[part] = start[part]
    removed, asked = _removed(parts, start, end, beginning, first, since), _nested(start)
    for part in parts:
        start[part], end[part] = max(start[part], beginning[part]), max(end[part], beginning[part])
        end[part] = min(end[part], ends[part])
    span = Span(_nested(start), _nested(end), removed, since if isinstance(since, datetime) else None, _nested(beginning), asked)
    if span.records <= 0:
        raise _invalid(" ".join([f"the range is empty: {', '.join(topics)} holds no record in it.", *map(str, removed)]))
    return span


def bounded(consumer: Any, topics: Sequence[str], until: Bound) -> Span:
    """All that lies on these topics up to a bound: by time, by offsets where they name the partition, else up to now. May be empty.

    Raises Unavailable.
    """
    with broker_errors():
        parts = [TopicPartition(topic, n) for topic in topics for n in sorted(consumer.partitions_for_topic(topic) or ())]
        limit = LIMIT_S * 1000
        beginning, ends = consumer.beginning_offsets(parts, timeout_ms=limit), consumer.end_offsets(parts, timeout_ms=limit)
        end = _offsets(consumer, parts, until, ends, ends)
    first = _nested(beginning)
    end = {part: max(beginning[part], min(end[part], ends[part])) for part in parts}
    return Span(first, _nested(end), (), None, first, first)


def _offsets(consumer: Any, parts: Sequence[TopicPartition], bound: Bound, without: Mapping[Any, int], ends: Mapping[Any, int]) -> Any:
    if bound is None:
        return dict(without)
    if isinstance(bound, dict):
        return {part: bound.get(part.topic, {}).get(part.partition, without[part]) for part in parts}
    found = consumer.offsets_for_times(dict.fromkeys(parts, int(bound.timestamp() * 1000)), timeout_ms=LIMIT_S * 1000)
    return {part: found[part].offset if found.get(part) else ends[part] for part in parts}


def _removed(parts: Sequence[Any], start: Any, end: Any, beginning: Any, first: Any, since: Bound) -> tuple[Removed, ...]:
    """By topic. Without a lower bound nothing is missed: the range begins where the log does."""
    found: dict[str, list[tuple[int | None, datetime | None]]] = {}
    for part in parts:
        moment = datetime.fromtimestamp(first[part].timestamp / 1000, UTC) if first.get(part) else None
        if isinstance(since, dict) and (gone := min(end[part], beginning[part]) - start[part]) > 0:
            found.setdefault(part.topic, []).append((gone, moment))
        elif isinstance(since, datetime) and beginning[part] > 0 and (moment is None or moment > since):
            found.setdefault(part.topic, []).append((None, moment))
    return tuple(
        Removed(
            topic,
            len(ones),
            sum(gone or 0 for gone, _ in ones) if isinstance(since, dict) else None,
            min((moment for _, moment in ones if moment), default=None),
        )
        for topic, ones in sorted(found.items())
    )


def _nested(offsets: Mapping[Any, int]) -> Offsets:
    nested: Offsets = {}
    for part, offset in sorted(offsets.items()):
        nested.setdefault(part.topic, {})[part.partition] = offset
    return nested


def _read(file: Path, key: str) -> Offsets:
    try:
        if file.stat().st_size > MAX_FILE_BYTES:
            raise _invalid(f"{file} is too large for a file of offsets")
        said = json.loads(file.read_text(encoding="utf-8"))
        return _OFFSETS.validate_python(said["offsets"][key] if isinstance(said, dict) and "offsets" in said else said)
    except (OSError, UnicodeDecodeError, json.JSONDecodeError, KeyError, TypeError, ValidationError, RecursionError) as error:
        what = f"{file} holds no offsets; give the manifest.json of a replay, or {{topic: {{partition: offset}}}}"
        raise _invalid(what) from error


def _invalid(what: str) -> Invalid:
    return Invalid(Reason.BAD_REQUEST, f"{what[0].upper()}{what[1:]}" + ("" if what.endswith(".") else "."))
