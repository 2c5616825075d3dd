"""Where a simulation's recordings go, the broker or a folder, and the truth that is written beside them."""

from __future__ import annotations

import csv
import io
from collections import deque
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from kafka.errors import KafkaError
from pydantic import ValidationError

from producers.recordings import Recording
from producers.scenes import ROW_S
from producers.watcher import stream_of
from soundscape.answers import write_whole
from soundscape.audio import sha256
from soundscape.errors import Invalid, Reason, Unavailable
from soundscape.events import ClipRecorded, MinuteRecorded, clip_id
from soundscape.kafka import LIMIT_S, abandon, broker_errors, new_producer
from soundscape.settings import Settings
from soundscape.topics import CLIPS, RECORDINGS
from soundscape.wire import encode

IN_FLIGHT = 32
"""Records sent and not yet acknowledged, at most: they bound the memory (half a megabyte each) and keep the broker busy."""


class Sent(NamedTuple):
    """A recording that has arrived, and the clip that it is."""

    clip_id: str
    recording: Recording


class Sink(Protocol):
    """Takes recordings, and says which have arrived."""

    sent: list[Sent]

    def put(self, recording: Recording) -> None:
        """Take one. Raises Unavailable or OSError."""

    def settle(self) -> None:
        """Note what has arrived meanwhile, without waiting. Raises Unavailable."""

    def finish(self) -> None:
        """Return when all have arrived. Raises Unavailable."""

    def close(self) -> None:
        """Let go of what is open."""


class Broker:
    """Minutes to `recordings`, tours' clips to `clips`: sent without waiting for each, every acknowledgement awaited."""

    def __init__(self, settings: Settings, site: str) -> None:
        """Raises Unavailable."""
        self.sent: list[Sent] = []
        self._site = site
        self._waiting: deque[tuple[Any, Sent]] = deque()
        self._producer = new_producer(settings)

    def put(self, recording: Recording) -> None:
        """Send it. Raises Unavailable, Invalid for a site or stream that no event can carry."""
        event = event_of(self._site, recording)
        message = encode(event)
        topic = CLIPS if recording.tour else RECORDINGS
        with broker_errors():
            future = self._producer.send(topic.name, key=message.key, value=message.value, headers=message.headers)
        self._waiting.append((future, Sent(str(event.clip_id), recording)))
        while len(self._waiting) > IN_FLIGHT:
            self._await_oldest()
        self.settle()

    def settle(self) -> None:
        """Note what was acknowledged meanwhile. Raises Unavailable."""
        while self._waiting and self._waiting[0][0].is_done:
            self._await_oldest()

    def finish(self) -> None:
        """Wait for every acknowledgement. Raises Unavailable."""
        while self._waiting:
            self._await_oldest()

    def _await_oldest(self) -> None:
        future, sent = self._waiting[0]
        try:
            future.get(timeout=LIMIT_S)
        except KafkaError as error:
            what = f"The broker did not acknowledge ({type(error).__name__}); {len(self.sent)} recordings had arrived before."
            raise Unavailable(f"{what} See `soundscape status`.") from error
        self._waiting.popleft()
        self.sent.append(sent)

    def close(self) -> None:
        """End the connection; what was not acknowledged is given up."""
        abandon(self._producer)


class Folder:
    """Files named in the seed's way, SITE_YYYYMMDD_HHMMSS.ogg, each whole or not at all; a watcher's clip ids."""

    def __init__(self, folder: Path, site: str) -> None:
        """Raises OSError at once where no file can be written, and not after the first minute was made."""
        self.sent: list[Sent] = []
        self._folder, self._site = folder, site
        folder.mkdir(parents=True, exist_ok=True)

    def put(self, recording: Recording) -> None:
        """Write it. Raises OSError."""
        write_whole(self._folder / f"{recording.stem}.ogg", recording.audio)
        stream = stream_of(recording.stem)
        self.sent.append(Sent(clip_id(self._site, stream, recording.recorded_at, sha256(recording.audio)), recording))

    def settle(self) -> None:
        """All is written."""

    def finish(self) -> None:
        """All is written."""

    def close(self) -> None:
        """Nothing is open."""


def event_of(site: str, recording: Recording) -> ClipRecorded:
    """The event of a recording. Raises Invalid for a site that no event can carry."""
    digest = sha256(recording.audio)
    fields = {
        "clip_id": clip_id(site, recording.stream, recording.recorded_at, digest),
        "site": site,
        "stream": recording.stream,
        "tour_id" if recording.tour else "recorder": recording.stream,
        "sha256": digest,
        "published_at": datetime.now(UTC),
        "recorded_at": recording.recorded_at,
        "latitude": recording.latitude,
        "longitude": recording.longitude,
        "audio": recording.audio,
    }
    try:
        return (ClipRecorded if recording.tour else MinuteRecorded).model_validate(fields)
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        raise Invalid(Reason.BAD_REQUEST, f"The {first['loc'][0]} of the recordings does not hold: {first['msg']}.") from error


def write_truth(folder: Path, sent: Iterable[Sent]) -> None:
    """Write what is known of the recordings that arrived, each file whole: `soundscape_labels.csv`, `soundscape_events.csv`, and
    `clips.csv`, which says which clip a row's stem is. Raises OSError.

    A row_id is STEM_ENDSECOND; a recording of which nobody knows the truth has no rows.
    """
    labels, events, clips = [], [], []
    for clip, one in sent:
        clips.append((clip, one.stem, one.stream, "clips" if one.tour else "recordings", one.recorded_at.isoformat(), f"{one.seconds:.3f}"))
        labels += [(f"{one.stem}_{int((n + 1) * ROW_S)}", " ".join(row)) for n, row in enumerate(one.rows or ())]
        events += [(f"{one.stem}.ogg", c.start, c.end, c.label, c.clip, c.snr_db) for c in one.calls]
    tables: dict[str, tuple[tuple[str, ...], list[Any]]] = {
        "soundscape_labels.csv": (("row_id", "labels"), labels),
        "soundscape_events.csv": (("filename", "start", "end", "primary_label", "clip", "snr_db"), events),
        "clips.csv": (("clip_id", "stem", "stream", "lane", "recorded_at", "seconds"), clips),
    }
    for name, (columns, rows) in tables.items():
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows(rows)
        write_whole(folder / name, text.getvalue().encode())
