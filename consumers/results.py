"""The watched files' answers: STEM.csv for a prediction, STEM.error.json for a refusal, and a position that loses neither."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from consumers.files import Said, replaces, rows, said_by
from consumers.follow import RETRY_S, Follower, Pulse, persist, read
from soundscape import answers
from soundscape.errors import Unavailable
from soundscape.events import ClipAnalysed, ClipDied
from soundscape.health import serve_health
from soundscape.logs import set_up_logging
from soundscape.metrics import CLIPS_OUT
from soundscape.settings import Port, Settings, get_settings
from soundscape.topics import DEAD_LETTERS, LANE_OF, PREDICTIONS
from soundscape.wire import name_of, texts

PROCESS = "results"
RESULTS_TOPICS = (PREDICTIONS, DEAD_LETTERS)
"""What it follows."""
_TABLES = """
CREATE TABLE IF NOT EXISTS positions (part TEXT PRIMARY KEY, following INTEGER NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS answers
    (stem TEXT PRIMARY KEY, clip_id TEXT NOT NULL, predicted INTEGER NOT NULL, published REAL NOT NULL) STRICT;
"""


class Ledger:
    """Its position on the log, and which answer stands for each file; saved after the files are written."""

    def __init__(self, path: Path) -> None:
        """Raises OSError or sqlite3.Error."""
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._db = sqlite3.connect(path, isolation_level=None)
        self._db.executescript(_TABLES)

    def positions(self) -> dict[str, int]:
        """`topic:partition` -> next offset."""
        return dict(self._db.execute("SELECT part, following FROM positions"))

    def standing(self, stem: str) -> Said | None:
        """The answer that stands."""
        found = self._db.execute("SELECT clip_id, predicted, published FROM answers WHERE stem = ?", (stem,)).fetchone()
        return Said(found[0], bool(found[1]), found[2]) if found else None

    def save(self, part: str, following: int, new: Mapping[str, Said]) -> None:
        """Record the answers written and the part's next offset, at once or not at all. Raises sqlite3.Error."""
        self._db.execute("BEGIN IMMEDIATE")
        try:
            self._db.executemany("REPLACE INTO answers VALUES (?, ?, ?, ?)", [(stem, *said) for stem, said in new.items()])
            self._db.execute("REPLACE INTO positions VALUES (?, ?)", (part, following))
            self._db.execute("COMMIT")
        except sqlite3.Error:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            raise

    def close(self) -> None:
        """Close the file."""
        self._db.close()


def ledger_path(settings: Settings) -> Path:
    """Where the ledger lies."""
    return settings.state / "results.sqlite"


class Files:
    """The answers in `online_output`."""

    def __init__(self, settings: Settings, ledger: Ledger) -> None:
        self._output, self._releases, self._ledger = settings.online_output, settings.releases, ledger

    def write(self, part: str, records: list[Any]) -> None:
        """Write what a batch of one partition says of watched files, then save the position. Raises OSError, sqlite3.Error."""
        new: dict[str, Said] = {}
        for record in records:
            if record.topic == PREDICTIONS.name:
                event: ClipAnalysed | ClipDied | None = read(PROCESS, ClipAnalysed, record)
            else:
                event = read(PROCESS, ClipDied, record)
            if event is None or (file_name := name_of(event.file_name)) is None:  # no file was ever watched under a name that is none
                continue
            stem, said = answers.stem_of(file_name), said_by(event, texts(record.headers))
            if not replaces(said, new.get(stem) or self._ledger.standing(stem)):
                continue
            self._put(event)
            new[stem] = said
        self._ledger.save(part, records[-1].offset + 1, new)

    def _put(self, event: ClipAnalysed | ClipDied) -> None:
        name = event.file_name or ""
        if isinstance(event, ClipAnalysed):
            answers.answer(self._output, name, rows(event, self._releases))
            CLIPS_OUT.labels(PROCESS, LANE_OF.get(event.place.topic, "")).inc()
        else:
            answers.refuse(self._output, name, answers.error_body(name, event.clip_id, event.reason, event.detail))


def follow(follower: Follower, ledger: Ledger, files: Files, pulse: Pulse) -> None:
    """Write what comes, for ever. Raises Unavailable."""
    follower.seek(ledger.positions())
    while True:
        for part, records in follower.batches():
            _until_written(files, part, records, pulse)
        if (lag := follower.measure()) is not None:
            pulse.beat(lag)


def _until_written(files: Files, part: str, records: list[Any], pulse: Pulse) -> None:
    while True:
        try:
            files.write(part, records)
            return
        except (OSError, sqlite3.Error) as error:
            pulse.fail(f"An answer cannot be written ({error}); trying again every {RETRY_S:g} s, nothing is lost.")
            time.sleep(RETRY_S)


def main() -> None:
    """Run it."""
    set_up_logging()
    settings, pulse = get_settings(), Pulse()
    serve_health(settings.port(Port.RESULTS), pulse)

    def run() -> None:
        try:
            settings.online_output.mkdir(parents=True, exist_ok=True)
            answers.sweep(settings.online_output)
            ledger = Ledger(ledger_path(settings))
        except (OSError, sqlite3.Error) as error:
            raise Unavailable(f"The data folder cannot be written ({error}).") from error
        try:
            with Follower(settings, PROCESS, RESULTS_TOPICS) as follower:
                follow(follower, ledger, Files(settings, ledger), pulse)
        finally:
            ledger.close()

    persist(run, pulse)


if __name__ == "__main__":
    main()
