"""The files in online_output, whatever order the topics come in and however often they are read."""

from __future__ import annotations

import dataclasses
import errno
import itertools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from consumers.results import Files, Ledger
from soundscape import answers
from soundscape.metrics import UNREADABLE
from soundscape.settings import Settings

NAME = "REC_1.ogg"


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(data_dir=tmp_path)


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    made = Ledger(tmp_path / "state" / "results.sqlite")
    yield made
    made.close()


def _names(settings: Settings) -> set[str]:
    return {path.name for path in settings.online_output.iterdir()}


def test_a_prediction_removes_the_refusal_in_either_order(writer: Any, tmp_path: Path) -> None:
    death = writer.death(writer.clip("one", file_name=NAME))
    prediction = writer.answer("one", file_name=NAME)
    for n, order in enumerate(itertools.permutations([death, prediction])):
        settings = Settings(data_dir=tmp_path / str(n))
        ledger = Ledger(settings.state / "results.sqlite")
        for record in order:
            Files(settings, ledger).write(f"{record.topic}:0", [record])
        ledger.close()
        assert _names(settings) == {"REC_1.csv"}


def test_a_refusal_says_why(writer: Any, settings: Settings, ledger: Ledger) -> None:
    Files(settings, ledger).write("dead-letters:0", [writer.death(writer.clip("one", file_name=NAME))])
    said = json.loads((settings.online_output / "REC_1.error.json").read_text())
    assert said.keys() == {"clip_id", "reason", "detail", "file"}
    assert (said["reason"], said["file"]) == ("not-audio", NAME)


def test_a_later_answer_replaces_the_file(writer: Any, settings: Settings, ledger: Ledger) -> None:
    files = Files(settings, ledger)
    files.write("predictions:0", [writer.answer("one", file_name=NAME)])
    files.write("predictions:0", [writer.answer("one", file_name=NAME, labels=("frog", "toad"))])
    assert (settings.online_output / "REC_1.csv").read_text().startswith("row_id,frog,toad\n")
    assert ledger.positions() == {"predictions:0": 2}


def test_the_same_clip_in_two_files_has_an_answer_beside_each(writer: Any, settings: Settings, ledger: Ledger) -> None:
    """The same bytes of one recorder, under two names."""
    files = Files(settings, ledger)
    for name in ("REC_a.ogg", "REC_b.ogg"):
        files.write("predictions:0", [writer.answer("one", file_name=name)])
    assert _names(settings) == {"REC_a.csv", "REC_b.csv"}


def test_clips_that_were_no_files_leave_none(writer: Any, settings: Settings, ledger: Ledger) -> None:
    settings.online_output.mkdir(parents=True)
    Files(settings, ledger).write("predictions:0", [writer.answer("one")])
    assert _names(settings) == set()
    assert ledger.positions() == {"predictions:0": 1}


def test_a_full_disk_moves_no_position_and_damages_no_file(
    writer: Any, settings: Settings, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = Files(settings, ledger)
    files.write("predictions:0", [writer.answer("one", file_name=NAME)])
    before = (settings.online_output / "REC_1.csv").read_bytes()
    batch = [writer.answer("one", file_name=NAME, labels=("frog", "toad"))]

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("soundscape.answers.os.fsync", full)
        with pytest.raises(OSError, match="No space"):
            files.write("predictions:0", batch)
    assert (settings.online_output / "REC_1.csv").read_bytes() == before
    assert _names(settings) == {"REC_1.csv"}
    assert ledger.positions() == {"predictions:0": 1}
    files.write("predictions:0", batch)
    assert ledger.positions() == {"predictions:0": 2}
    assert (settings.online_output / "REC_1.csv").read_bytes() != before


def test_a_killed_writers_leavings_are_swept_and_a_living_ones_are_not(tmp_path: Path) -> None:
    dead, living = tmp_path / ".a.csv.4194999.tmp", tmp_path / ".b.csv.1.tmp"
    dead.touch()
    living.touch()
    answers.sweep(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [living.name]


@pytest.mark.parametrize("name", ["../../etc/x.ogg", "é" * 125 + ".ogg", ".ogg"])
def test_an_answer_stays_in_its_folder_under_a_name_that_fits(tmp_path: Path, name: str) -> None:
    for path in (answers.csv_path(tmp_path, name), answers.error_path(tmp_path, name)):
        assert path.parent == tmp_path
        answers.write_whole(path, b"x")
        assert path.read_bytes() == b"x"


@pytest.mark.parametrize("name", ["a\0.ogg", "../up.ogg"])
def test_a_name_that_is_none_is_passed_over(writer: Any, settings: Settings, ledger: Ledger, name: str) -> None:
    settings.online_output.mkdir(parents=True)
    record = writer.death(writer.clip("one", file_name=NAME))
    headers = [(key, name.encode() if key == "ce_filename" else item) for key, item in record.headers]
    record = dataclasses.replace(record, headers=headers)
    Files(settings, ledger).write("dead-letters:0", [record])
    assert _names(settings) == set()
    assert ledger.positions() == {"dead-letters:0": 1}


WINDOW = {"start_s": 0.0, "end_s": 5.0, "scores": [0.25, 0.5]}
MISFITS = [
    {"windows": [WINDOW | {"scores": [0.25]}]},
    {"windows": [WINDOW, WINDOW | {"scores": [0.1, 0.2, 0.3]}]},
    {"windows": [WINDOW | {"start_s": float("inf"), "end_s": float("inf")}]},
    {"labels": ["frog"]},
    {"weights": [1.0]},
]
"""What a prediction's body may say that does not fit together."""


@pytest.mark.parametrize("changes", MISFITS, ids=lambda changes: next(iter(changes)))
def test_a_prediction_whose_numbers_do_not_fit_its_labels_is_passed_over(
    writer: Any, settings: Settings, ledger: Ledger, changes: dict[str, Any]
) -> None:
    """Counted as unreadable, and the position goes on: it would be read again at each start, for ever."""
    unreadable = UNREADABLE.labels("results", "predictions")._value.get()
    batch = [writer.misfit("one", changes, file_name=NAME), writer.answer("two", file_name="REC_2.ogg")]
    Files(settings, ledger).write("predictions:0", batch)
    assert _names(settings) == {"REC_2.csv"}
    assert ledger.positions() == {"predictions:0": 2}
    assert UNREADABLE.labels("results", "predictions")._value.get() == unreadable + 1
