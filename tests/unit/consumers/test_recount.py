"""What the logs alone say, read record by record."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from consumers import recount
from consumers.recount import read_logs, tally, unsummed
from soundscape.settings import Settings
from soundscape.wire import Message


class _Closed:
    def close(self) -> None:
        """Nothing is open."""


@pytest.fixture
def logs(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[Any]]:
    """The records of each topic, to be filled."""
    held: dict[str, list[Any]] = {}

    def read_all(consumer: object, topics: list[str]) -> Iterator[Any]:
        for topic in topics:
            yield from held.get(topic, [])

    monkeypatch.setattr(recount, "read_all", read_all)
    monkeypatch.setattr(recount, "new_consumer", lambda settings: _Closed())
    monkeypatch.setattr(recount, "new_admin", lambda settings: _Closed())
    monkeypatch.setattr(recount, "committed", lambda admin, group: {("clips", 0): 100, ("recordings", 0): 100})
    return held


def test_a_clip_sent_and_answered_twice_is_one_clip_with_its_latest_answer(
    writer: Any, logs: dict[str, list[Any]], clip_id: Callable[[str], str], tmp_path: Path
) -> None:
    logs["clips"] = [writer.clip("one", topic="clips"), writer.clip("one", topic="clips")]
    logs["predictions"] = [writer.answer("one", ("frog",)), writer.answer("one", ("owl",))]
    log = read_logs(Settings(data_dir=tmp_path))
    counted = tally(log)
    assert (counted.accepted, counted.predicted, counted.lost) == (1, 1, {})
    assert log.accepted[clip_id("one")] == ["clips:0:1"]
    assert log.answers[clip_id("one")].counts == {"counts:s:2026-03-01T23:owl"}


def test_junk_is_accepted_at_its_place_and_its_dead_letter_finds_it(writer: Any, logs: dict[str, list[Any]], tmp_path: Path) -> None:
    junk = [writer.put("clips", Message(b"k", b"", [])), writer.put("clips", Message(b"k", b"", [("ce_type", b"v9")]))]
    logs["clips"] = junk
    logs["dead-letters"] = [writer.death(junk[0])]
    counted = tally(read_logs(Settings(data_dir=tmp_path)))
    assert (counted.accepted, counted.dead, [*counted.lost]) == (2, 1, ["clips:0:1"])


def test_probes_are_no_clips(writer: Any, logs: dict[str, list[Any]], tmp_path: Path) -> None:
    logs["recordings"] = [writer.clip("probe", probe=True)]
    logs["predictions"] = [writer.answer("probe", ("frog",), probe=True)]
    log = read_logs(Settings(data_dir=tmp_path))
    assert (log.accepted, log.answers) == ({}, {})


def test_a_files_answer_is_the_prediction_not_the_refusal_before_it(writer: Any, logs: dict[str, list[Any]], tmp_path: Path) -> None:
    came = writer.clip("one", file_name="REC_1.ogg")
    logs["recordings"], logs["dead-letters"] = [came], [writer.death(came)]
    assert not read_logs(Settings(data_dir=tmp_path)).files["REC_1"].said.predicted
    logs["predictions"] = [writer.answer("one", file_name="REC_1.ogg")]
    assert read_logs(Settings(data_dir=tmp_path)).files["REC_1"].said.predicted


def test_a_prediction_that_does_not_hold_is_no_answer_and_ends_no_audit(writer: Any, logs: dict[str, list[Any]], tmp_path: Path) -> None:
    """Its clip has none: it is lost, and named."""
    logs["recordings"] = [writer.clip("one", file_name="REC_1.ogg"), writer.clip("two", file_name="REC_2.ogg")]
    logs["predictions"] = [
        writer.misfit("one", {"labels": ["frog"]}, file_name="REC_1.ogg"), writer.answer("two", file_name="REC_2.ogg")
    ]  # fmt: skip
    log = read_logs(Settings(data_dir=tmp_path))
    assert set(log.files) == {"REC_2"}
    assert (tally(log).predicted, len(tally(log).lost)) == (1, 1)


@pytest.mark.parametrize(("done", "waiting"), [({("predictions", 0): 1}, {"two"}), ({("feedback", 0): 7}, {"one", "two"}), ({}, set())])
def test_what_the_tours_have_not_taken_in_waits(
    writer: Any,
    logs: dict[str, list[Any]],
    clip_id: Callable[[str], str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    done: dict[tuple[str, int], int],
    waiting: set[str],
) -> None:
    """Neither lost nor predicted yet; where the process never ran, nothing waits for it."""
    logs["clips"] = [writer.clip(name, topic="clips") for name in ("one", "two")]
    logs["predictions"] = [writer.answer(name) for name in ("one", "two")]
    settings = Settings(data_dir=tmp_path)
    log = read_logs(settings)
    monkeypatch.setattr(recount, "committed", lambda admin, group: {"tours": done}[group])
    counted = tally(log, unsummed(settings, log))
    assert set(counted.waiting) == {clip_id(name) for name in waiting}
    assert (counted.predicted, counted.lost) == (2 - len(waiting), {})
