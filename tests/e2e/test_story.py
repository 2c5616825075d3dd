"""The story once, small: recorders and tours speak, the release answers, everybody finds what they came for, and the audit is clean."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import httpx

from soundscape.events import ClipAnalysed
from soundscape.testing import Stack, wait_for
from soundscape.testing_log import Log


def test_recorders_and_tours_are_heard(stack: Stack, log: Log, tmp_path: Path) -> None:
    """Two recorders of two minutes on the bulk lane, two tours on the live one: each clip is answered, counted and found once."""
    before = stack.audit()
    stack.run("simulate", "--recorders", "2", "--minutes", "2", "--rate", "max", "--truth", str(tmp_path / "truth"))
    stack.run("simulate", "--recorders", "0", "--tours", "2", "--clips", "6", "--rate", "max", "--seed", "2")
    found = stack.audit()
    assert (found["lost"], found["twice"], found["dead"]) == (0, 0, before["dead"])
    assert found["accepted"] == before["accepted"] + 4 + 12
    assert found["predicted"] == before["predicted"] + 4 + 12
    log.poll()

    def all_heard() -> list[ClipAnalysed] | None:
        log.poll()
        answers = [said[-1] for said in log.predictions.values() if not said[-1].probe]
        return answers if len(answers) == 16 else None

    answers: list[ClipAnalysed] = wait_for(all_heard, "the answers on the log")
    minutes = [one for one in answers if one.place.topic == "recordings"]
    assert sorted(len(one.windows) for one in minutes) == [12] * 4 and len({one.stream for one in minutes}) == 2
    tours = [one for one in answers if one.place.topic == "clips"]
    assert sorted(len(one.windows) for one in tours) == [1] * 12 and len({one.tour_id for one in tours}) == 2
    for tour in {one.tour_id for one in tours}:
        assert len({one.place.partition for one in tours if one.tour_id == tour}) == 1, "a tour is one partition, in order"
    assert all(one.recorded_at is not None and one.latitude is not None and one.site == "test" for one in answers)
    for one in answers:
        answer = httpx.get(f"{stack.gateway_url}/v1/clips/{one.clip_id}", headers={"X-API-Key": stack.key}, timeout=10.0)
        assert answer.json()["state"] == "predicted", answer.text


def test_a_folder_of_recordings_becomes_a_folder_of_answers(stack: Stack) -> None:
    """The seed's way: files in at one end, CSV out at the other, a column a species."""
    before = set(stack.settings.online_output.glob("*.csv"))
    folder = str(stack.settings.online_input)
    stack.run("simulate", "--recorders", "1", "--minutes", "2", "--rate", "max", "--seed", "3", "--folder", folder)

    def new() -> set[Path]:
        return set(stack.settings.online_output.glob("*.csv")) - before

    wait_for(lambda: len(new()) == 2, "two answers")
    for path in new():
        with path.open(newline="") as file:
            rows = list(csv.DictReader(file))
        assert [row.pop("row_id") for row in rows] == [f"{path.stem}_{second}" for second in range(5, 65, 5)]
        assert all(set(row) == {"low", "mid", "top"} and all(0.0 <= float(score) <= 1.0 for score in row.values()) for row in rows)
    assert json.loads(stack.run("audit", "--json").stdout.splitlines()[-1])["lost"] == 0
