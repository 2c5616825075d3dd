"""The folder watcher: every .ogg that arrives whole in `online_input` becomes a clip on the bulk lane, once."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import logging
import os
import re
import signal
import sqlite3
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from threading import Event as Flag
from typing import Any

from pydantic import ValidationError
from watchdog.events import FileSystemEvent, FileSystemEventHandler
from watchdog.observers import Observer

from producers.arrival import Arrivals, Arrived, look_of
from producers.lane import Lane
from producers.ledger import Ledger, Look
from soundscape import answers
from soundscape.audio import MAX_BYTES, MAX_MESSAGE_BYTES, sha256, sniff, to_ogg
from soundscape.errors import Invalid, Reason, Unavailable
from soundscape.events import MinuteRecorded, clip_id
from soundscape.health import serve_health
from soundscape.isolation import ChildPool
from soundscape.kafka import abandon, new_producer, say
from soundscape.logs import set_up_logging
from soundscape.metrics import CLIPS_IN, FILES
from soundscape.settings import Port, Settings, get_settings
from soundscape.topics import RECORDINGS

log = logging.getLogger(__name__)

PROCESS = "watcher"
COLOMBIA = timezone(timedelta(hours=-5))
"""File names carry local time (BirdCLEF's soundscapes do); Colombia has no summer time."""
SCAN_S = 1.0
"""Seconds between two looks at the whole folder; inotify only brings the next one forward."""
GRAIN_S = 0.1
"""Least seconds between two looks: a file being written wakes us many times a second."""
RETRY_S = 2.0
"""Seconds between two tries while the broker is away or the disk is full."""
_STAMP = re.compile(r"_(\d{8}_\d{6})$")


def stream_of(stem: str) -> str:
    """The recorder: the name before the first underscore."""
    return stem.partition("_")[0] or stem


def recorded_at(stem: str) -> datetime | None:
    """When the recording began, from NAME_YYYYMMDD_HHMMSS in Colombia's local time; None where the name does not say."""
    found = _STAMP.search(stem)
    try:
        return datetime.strptime(found[1], "%Y%m%d_%H%M%S").replace(tzinfo=COLOMBIA) if found else None
    except ValueError:
        return None


def event_of(site: str, name: str, digest: str, audio: bytes, rate: int | None = None, kind: str | None = None) -> MinuteRecorded:
    """The event of a file: `digest` of its own bytes, `audio` what is sent; `rate` and `kind` its own if it was encoded again.

    Raises Invalid (malformed-event) for a name that no event can carry.
    """
    stem = Path(name).stem
    stream, moment = stream_of(stem), recorded_at(stem)
    try:
        return MinuteRecorded.model_validate(
            {
                "clip_id": clip_id(site, stream, moment, digest),
                "site": site,
                "stream": stream,
                "recorder": stream,
                "file_name": name,
                "sha256": digest,
                "published_at": datetime.now(UTC),
                "recorded_at": moment,
                "original_rate": rate,
                "original_type": kind,
                "audio": audio,
            }
        )
    except (ValidationError, UnicodeError) as error:
        what = "The file's name cannot be sent; rename it: at most 200 letters in UTF-8, no control characters."
        raise Invalid(Reason.MALFORMED_EVENT, what) from error


class Watcher:
    """One pass over the folder at a time: what has arrived whole is sent, acknowledged, then written down."""

    def __init__(self, settings: Settings, ledger: Ledger, producer: Any) -> None:
        self._settings, self._ledger, self._producer = settings, ledger, producer
        self._arrivals = Arrivals(MAX_BYTES)
        self._pool: ChildPool | None = None
        self._unreadable: dict[str, Look] = {}

    def new_files(self) -> Iterator[tuple[Path, Look]]:
        """Files of the folder that were not dealt with as they look now, oldest first. Raises OSError."""
        folder = self._settings.online_input
        folder.mkdir(parents=True, exist_ok=True)
        found: list[tuple[Look, Path]] = []
        with os.scandir(folder) as entries:
            for entry in entries:
                try:
                    if entry.name.startswith(".") or not entry.name.lower().endswith(".ogg") or not entry.is_file():
                        continue
                    look = look_of(entry.stat())
                except FileNotFoundError:
                    continue
                if not self._ledger.knows(entry.name, look):
                    found.append((look, Path(entry.path)))
        self._arrivals.forget({path.name for _, path in found})
        yield from ((path, look) for look, path in sorted(found, key=lambda one: (one[0].mtime_ns, one[1].name)))

    def deal_with(self, path: Path, look: Look) -> bool:
        """Send or refuse a file if it has arrived whole; whether it was sent.

        Raises Unavailable, OSError, sqlite3.Error: nothing is written down then, and the file is dealt with again.
        """
        try:
            arrived = self._arrivals.arrived(path, look, time.monotonic())
        except FileNotFoundError:
            return False
        except OSError as error:  # this file's own trouble: the others go on
            if self._unreadable.get(path.name) != look:
                log.warning("%s cannot be read (%s); it is tried again.", ascii(path.name), error.strerror)
                self._unreadable[path.name] = look
            return False
        if arrived is None:
            return False
        name, site = path.name, self._settings.site
        digest = sha256(arrived.body) if arrived.body is not None else _digest(path)
        try:
            event = self._event(site, name, digest, arrived)
        except Invalid as error:
            stem = Path(name).stem
            clip = clip_id(site, os.fsencode(stream_of(stem)).decode(errors="replace"), recorded_at(stem), digest)
            answers.refuse(self._settings.online_output, name, answers.error_body(name, clip, error.reason, error.detail))
            self._ledger.record(name, look, digest, clip, "refused")
            FILES.labels("refused").inc()
            log.info("%s is refused: %s", ascii(name), error.detail)
            return False
        say(self._producer, RECORDINGS, event)
        self._ledger.record(name, look, digest, str(event.clip_id), "sent")
        CLIPS_IN.labels(PROCESS, "bulk").inc()
        FILES.labels("sent").inc()
        log.info("%s is sent as clip %s", name, event.clip_id)
        return True

    def _event(self, site: str, name: str, digest: str, arrived: Arrived) -> MinuteRecorded:
        if arrived.body is None:
            size = arrived.look.size
            raise Invalid(Reason.TOO_LARGE, f"The file has {size} bytes; at most {MAX_BYTES} are accepted.")
        fits = len(arrived.body) <= MAX_MESSAGE_BYTES
        if fits and not _is_other_sound(arrived.body):
            return event_of(site, name, digest, arrived.body)
        if self._pool is None:
            self._pool = ChildPool(1)
        try:
            audio, rate, _ = asyncio.run(self._pool.run(to_ogg, arrived.body))
        except Invalid:
            if not fits:
                raise
            return event_of(site, name, digest, arrived.body)  # its refusal comes from the log, like any other
        return event_of(site, name, digest, audio, rate, sniff(arrived.body))

    def close(self) -> None:
        """End the child."""
        if self._pool is not None:
            self._pool.close()


def _is_other_sound(body: bytes) -> bool:
    """Whether it is WAV, FLAC or MP3 under an OGG's name."""
    try:
        return sniff(body) != "audio/ogg"
    except Invalid:
        return False


class _Wake(FileSystemEventHandler):
    """Brings the next look forward when something changes in the folder."""

    def __init__(self, flag: Flag) -> None:
        self._flag = flag

    def on_any_event(self, event: FileSystemEvent) -> None:
        if event.event_type in ("created", "moved", "modified", "closed"):  # our own reading is no news
            self._flag.set()


def watch(folder: Path, flag: Flag) -> None:
    """Set the flag at each change in the folder, from a thread; where inotify has no watch left, looking alone must do."""
    folder.mkdir(parents=True, exist_ok=True)
    observer = Observer()
    observer.daemon = True
    observer.schedule(_Wake(flag), str(folder))
    try:
        observer.start()
    except OSError as error:
        log.warning("The folder cannot be watched (%s); it is looked at every %g s.", error, SCAN_S)


class Health:
    """What `/healthz` says: healthy while the folder is read and the broker answers."""

    def __init__(self) -> None:
        self.why = "It has not reached the broker yet."

    def __call__(self) -> dict[str, Any]:
        return {"healthy": not self.why, "why": self.why}


def follow(watcher: Watcher, lane: Lane, flag: Flag, health: Health) -> None:
    """Look and send, for ever. Raises Unavailable, OSError, sqlite3.Error."""
    while True:
        flag.clear()
        full = not lane.has_room()
        health.why = f"{lane.why} Files wait in the folder." if full else ""
        for path, look in watcher.new_files():
            if not lane.has_room():
                break
            if watcher.deal_with(path, look):
                lane.sent()
        flag.wait(SCAN_S)
        time.sleep(GRAIN_S)


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _run(settings: Settings, flag: Flag, health: Health) -> None:
    with contextlib.ExitStack() as stack:
        answers.sweep(settings.online_output)
        ledger = Ledger(settings.state / "watcher.sqlite")
        stack.callback(ledger.close)
        lane = Lane(settings)
        stack.callback(lane.close)
        producer = new_producer(settings)
        stack.callback(abandon, producer)
        watcher = Watcher(settings, ledger, producer)
        stack.callback(watcher.close)
        follow(watcher, lane, flag, health)


def main() -> None:
    """Run the watcher."""
    set_up_logging()
    signal.signal(signal.SIGIO, signal.SIG_IGN)  # what the kernel sends to the holder of a lease, however short
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))  # the decoding child ends with us
    settings, flag, health = get_settings(), Flag(), Health()
    serve_health(settings.port(Port.WATCHER), health)
    watch(settings.online_input, flag)
    while True:
        try:
            _run(settings, flag, health)
        except (Unavailable, OSError, sqlite3.Error) as error:
            why = f"{error} Trying again every {RETRY_S:g} s; no file is lost."
            if why != health.why:
                log.warning("%s", why)
            health.why = why
            time.sleep(RETRY_S)


if __name__ == "__main__":
    main()
