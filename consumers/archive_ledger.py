"""What the archive knows beside its files: positions, each clip's day, what people said, tours, and answers withheld for a voice."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import date
from pathlib import Path
from typing import Any

from consumers.archive_rows import Answer, Row
from soundscape.denied import DenyList
from soundscape.events import ClipLabelled, FeedbackGiven, TourSummed

Said = ClipLabelled | FeedbackGiven
KINDS: dict[str, type[Said]] = {"labels": ClipLabelled, "feedback": FeedbackGiven}
_MOMENTS = ("recorded_at", "published_at")
_TABLES = """
CREATE TABLE IF NOT EXISTS positions (part TEXT PRIMARY KEY, following INTEGER NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS clips (clip_id TEXT PRIMARY KEY, day TEXT NOT NULL) STRICT, WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS clips_of_day ON clips (day);
CREATE TABLE IF NOT EXISTS said
    (turn INTEGER PRIMARY KEY AUTOINCREMENT, kind TEXT NOT NULL, id TEXT NOT NULL, clip_id TEXT NOT NULL, day TEXT NOT NULL,
     body TEXT NOT NULL, UNIQUE (kind, id)) STRICT;
CREATE INDEX IF NOT EXISTS said_of_clip ON said (clip_id);
CREATE INDEX IF NOT EXISTS said_of_day ON said (kind, day);
CREATE TABLE IF NOT EXISTS tours (tour_id TEXT PRIMARY KEY, day TEXT NOT NULL, body TEXT NOT NULL) STRICT;
CREATE INDEX IF NOT EXISTS tours_of_day ON tours (day);
CREATE TABLE IF NOT EXISTS withheld (clip_id TEXT PRIMARY KEY, body TEXT NOT NULL) STRICT;
"""


class Ledger:
    """One SQLite file. Days are dates; what is changed in a `transaction` is kept at once or not at all."""

    def __init__(self, path: Path) -> None:
        """Raises OSError or sqlite3.Error."""
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._db = sqlite3.connect(path, isolation_level=None)
        self._db.executescript(_TABLES)

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Keep all that the block changes, or nothing of it if it raises."""
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._db.execute("COMMIT")
        except BaseException:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            raise

    def positions(self) -> dict[str, int]:
        """`topic:partition` -> next offset."""
        return dict(self._db.execute("SELECT part, following FROM positions"))

    def move(self, positions: Mapping[str, int]) -> None:
        """Set the next offsets."""
        self._db.executemany("REPLACE INTO positions VALUES (?, ?)", positions.items())

    def day_of(self, clip_id: str) -> date | None:
        """The day whose files hold the clip."""
        found = self._db.execute("SELECT day FROM clips WHERE clip_id = ?", (clip_id,)).fetchone()
        return date.fromisoformat(found[0]) if found else None

    def put_day(self, clip_id: str, day: date) -> None:
        """The clip's day."""
        self._db.execute("REPLACE INTO clips VALUES (?, ?)", (clip_id, day.isoformat()))

    def say(self, kind: str, event: Said, day: date) -> set[date]:
        """Take in a judgement, its change or its withdrawal; returns the days of `kind` that change."""
        asked = (kind, event.event_id())
        before = self._db.execute("SELECT day FROM said WHERE kind = ? AND id = ?", asked).fetchone()
        self._db.execute("DELETE FROM said WHERE kind = ? AND id = ?", asked)
        if event.verdict != "withdrawn":
            values = (*asked, str(event.clip_id), day.isoformat(), event.model_dump_json())
            self._db.execute("INSERT INTO said (kind, id, clip_id, day, body) VALUES (?, ?, ?, ?, ?)", values)
        return {day} | ({date.fromisoformat(before[0])} if before else set())

    def said_of_clips(self, day: date) -> dict[str, list[Said]]:
        """What people said of each clip of a day, in the order in which they last said it."""
        query = "SELECT kind, body FROM said JOIN clips USING (clip_id) WHERE clips.day = ? ORDER BY turn"
        found: dict[str, list[Said]] = {}
        for kind, body in self._db.execute(query, (day.isoformat(),)):
            event = KINDS[kind].model_validate_json(body)
            found.setdefault(str(event.clip_id), []).append(event)
        return found

    def said_on(self, kind: str, day: date) -> Iterator[Said]:
        """What people said on a day."""
        query = "SELECT body FROM said WHERE kind = ? AND day = ? ORDER BY turn"
        for (body,) in self._db.execute(query, (kind, day.isoformat())).fetchall():
            yield KINDS[kind].model_validate_json(body)

    def days_of_said(self, clip_id: str) -> Iterator[tuple[str, date]]:
        """(kind, day) of all that was said of a clip."""
        for kind, day in self._db.execute("SELECT kind, day FROM said WHERE clip_id = ?", (clip_id,)).fetchall():
            yield kind, date.fromisoformat(day)

    def denied(self, clip_ids: Iterable[str]) -> set[str]:
        """Those of the clips in which somebody heard a voice, by the rule of soundscape.denied."""
        deny_list, asked = DenyList(), set(clip_ids)
        for clip_id in asked:
            for (body,) in self._db.execute("SELECT body FROM said WHERE clip_id = ? AND kind = 'labels' ORDER BY turn", (clip_id,)):
                deny_list.apply(ClipLabelled.model_validate_json(body))
        return {clip_id for clip_id in asked if clip_id in deny_list}

    def put_tour(self, event: TourSummed, day: date) -> set[date]:
        """Take in a tour's summary; returns the days that change."""
        before = self._db.execute("SELECT day FROM tours WHERE tour_id = ?", (event.tour_id,)).fetchone()
        self._db.execute("REPLACE INTO tours VALUES (?, ?, ?)", (event.tour_id, day.isoformat(), event.model_dump_json()))
        return {day} | ({date.fromisoformat(before[0])} if before else set())

    def tours_on(self, day: date) -> list[TourSummed]:
        """The tours of a day."""
        found = self._db.execute("SELECT body FROM tours WHERE day = ?", (day.isoformat(),))
        return [TourSummed.model_validate_json(body) for (body,) in found]

    def withhold(self, clip_id: str, answer: Answer) -> None:
        """Keep a denied clip's answer out of the files; it comes back if the voice was an error."""
        body = json.dumps([answer.day.isoformat(), answer.clip, answer.detections], default=lambda moment: moment.isoformat())
        self._db.execute("REPLACE INTO withheld VALUES (?, ?)", (clip_id, body))

    def withheld(self, clip_id: str) -> Answer | None:
        """The answer that is kept out of the files."""
        found = self._db.execute("SELECT body FROM withheld WHERE clip_id = ?", (clip_id,)).fetchone()
        if found is None:
            return None
        day, clip, detections = json.loads(found[0])
        return Answer(date.fromisoformat(day), _moments(clip), [_moments(row) for row in detections])

    def release(self, clip_id: str) -> None:
        """It is no longer withheld."""
        self._db.execute("DELETE FROM withheld WHERE clip_id = ?", (clip_id,))


def _moments(row: Row) -> Row:
    from datetime import datetime

    there: dict[str, Any] = {name: datetime.fromisoformat(row[name]) for name in _MOMENTS if row.get(name)}
    return {**row, **there}
