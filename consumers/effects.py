"""What a batch of events changes on the board: pure, and the same for a record read again."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from consumers.follow import read
from soundscape.board import LATEST, counts_key
from soundscape.events import ClipAnalysed, ClipDied, Place
from soundscape.metrics import CLIPS_IN
from soundscape.topics import CLIPS, DEAD_LETTERS, LANE_OF, PREDICTIONS, RECORDINGS
from soundscape.wire import PREFIX, identity, texts

PROCESS = "board"
BOARD_TOPICS = (CLIPS, RECORDINGS, PREDICTIONS, DEAD_LETTERS)
"""What the board follows."""


@dataclass
class Changes:
    """Changes by clip: the last record of a clip in the batch stands."""

    fields: dict[str, dict[str, str]] = field(default_factory=dict)
    """Clip id -> fields of its hash to set."""
    counts: dict[str, frozenset[str]] = field(default_factory=dict)
    """Clip id -> the COUNTS sets that its new answer belongs to, and no others."""
    detections: dict[str, dict[str, list[str]]] = field(default_factory=dict)
    """Stream -> clip id -> entries of `latest`, as JSON; an empty list removes the clip's old ones."""


def changes_of(records: Iterable[Any]) -> Changes:
    """The changes of Kafka records of one partition, in their order. Probe clips change nothing."""
    changes = Changes()
    for record in records:
        if record.topic == PREDICTIONS.name:
            _answered(changes, record)
        elif record.topic == DEAD_LETTERS.name:
            _died(changes, record)
        else:
            _accepted(changes, record)
    return changes


def _accepted(changes: Changes, record: Any) -> None:
    named = texts(record.headers)  # the sound is not opened: what does not decode was accepted too, and gets a dead letter
    if named.get(PREFIX + "probe") == "true":
        return
    clip = identity(named, Place(topic=record.topic, partition=record.partition, offset=record.offset))
    known = {name: text for name in ("site", "stream") if (text := named.get(PREFIX + name))}
    lane = LANE_OF[record.topic]
    CLIPS_IN.labels(PROCESS, lane).inc()
    _set(changes, clip, lane=lane, accepted=place_of(record), **known)


def _answered(changes: Changes, record: Any) -> None:
    event = read(PROCESS, ClipAnalysed, record)
    if event is None or event.probe:
        return
    clip, lane = str(event.clip_id), LANE_OF.get(event.place.topic, "")
    _set(changes, clip, site=event.site, stream=event.stream, lane=lane, predicted=place_of(record), release=event.release)
    changes.counts[clip] = counts_of(event)
    changes.detections.setdefault(event.stream, {})[clip] = entries_of(event)


def _died(changes: Changes, record: Any) -> None:
    event = read(PROCESS, ClipDied, record)
    if event is None or event.probe:
        return
    known = {name: text for name, text in (("site", event.site), ("stream", event.stream)) if text}
    lane = LANE_OF.get(event.topic, "")
    _set(changes, event.clip_id, dead=place_of(record), reason=event.reason, detail=event.detail, lane=lane, **known)


def _set(changes: Changes, clip: str, **fields: str) -> None:
    changes.fields.setdefault(clip, {}).update(fields)


def place_of(record: Any) -> str:
    """`topic:partition:offset` of a Kafka record."""
    return f"{record.topic}:{record.partition}:{record.offset}"


def moment_of(event: ClipAnalysed) -> datetime:
    """When the clip was recorded, or else published, in UTC."""
    return event.recorded_at or event.stages.published


def counts_of(event: ClipAnalysed) -> frozenset[str]:
    """The COUNTS sets that hold this clip while this is its answer."""
    hour = f"{moment_of(event):%Y-%m-%dT%H}"
    return frozenset(counts_key(event.site, hour, detection.label) for detection in event.detections)


def entries_of(event: ClipAnalysed) -> list[str]:
    """The detections as entries of `latest`, JSON each."""
    common = {"clip_id": str(event.clip_id), "site": event.site, "release": event.release, "at": moment_of(event).isoformat()}
    return [json.dumps(common | detection.model_dump(mode="json")) for detection in event.detections]


def merged(latest: Iterable[str], answers: dict[str, list[str]]) -> list[str]:
    """A stream's list after these clips' answers: their old entries replaced, newest first, at most LATEST."""
    kept = [entry for entry in latest if json.loads(entry)["clip_id"] not in answers]
    both = kept + [entry for entries in answers.values() for entry in entries]
    return sorted(both, key=_newness, reverse=True)[:LATEST]


def _newness(entry: str) -> tuple[datetime, float, str]:
    said = json.loads(entry)
    return datetime.fromisoformat(said["at"]), said["start_s"], said["label"]
