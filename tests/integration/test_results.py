"""The watched files' answers, written from a real log."""

from __future__ import annotations

import csv
import json
from datetime import UTC, datetime
from uuid import uuid4

from consumers.audit import recount
from soundscape import testing
from soundscape.errors import Invalid, Reason
from soundscape.events import Place
from soundscape.kafka import new_producer, publish, say
from soundscape.testing import Stack, wait_for
from soundscape.testing_log import clip
from soundscape.topics import DEAD_LETTERS, RECORDINGS
from soundscape.wire import dead_letter, encode


def test_an_answer_has_a_row_every_five_seconds_and_stands_above_a_refusal(stack: Stack) -> None:
    stem = f"REC_{uuid4().hex}"
    body = testing.ogg(seconds=15.0, hertz=2000.0)
    event = clip(body, stream="REC", recorder="REC", file_name=f"{stem}.ogg", lane="bulk", recorded_at=datetime.now(UTC))
    answer, refusal = stack.settings.online_output / f"{stem}.csv", stack.settings.online_output / f"{stem}.error.json"
    producer = new_producer(stack.settings)
    sent = encode(event)
    place = Place(topic=RECORDINGS.name, partition=0, offset=0)
    letter = dead_letter(place, sent.key, sent.headers, b"", Invalid(Reason.POISON, "It died once."))
    publish(producer, DEAD_LETTERS.name, letter)
    assert json.loads(wait_for(lambda: refusal.exists() and refusal.read_bytes(), "the refusal"))["reason"] == "poison"
    say(producer, RECORDINGS, event)
    wait_for(answer.exists, "the answer")
    wait_for(lambda: not refusal.exists(), "the refusal gone")
    publish(producer, DEAD_LETTERS.name, letter)
    producer.close()
    with answer.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row.pop("row_id") for row in rows] == [f"{stem}_5", f"{stem}_10", f"{stem}_15"]
    assert all(row.keys() == {"low", "mid", "top"} and max(row, key=lambda label: float(row[label])) == "mid" for row in rows)
    _, twice, _ = recount(stack.settings, 60.0)  # waits until the late refusal was read
    assert twice == []
    assert not refusal.exists()
