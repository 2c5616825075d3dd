"""The files of `online_output`: whole, one of the two, and under a name that every file system takes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from soundscape.answers import answer, csv_path, error_body, error_path, refuse, stem_of, sweep


def test_a_later_answer_replaces_what_stood_there(tmp_path: Path) -> None:
    """A prediction removes a refusal, and the other way round."""
    refuse(tmp_path, "a.ogg", error_body("a.ogg", "id", "truncated", "cut."))
    assert json.loads(error_path(tmp_path, "a.ogg").read_text())["reason"] == "truncated"
    answer(tmp_path, "a.ogg", b"row_id\n")
    assert [path.name for path in tmp_path.iterdir()] == ["a.csv"]
    refuse(tmp_path, "a.ogg", b"{}")
    assert [path.name for path in tmp_path.iterdir()] == ["a.error.json"]


@pytest.mark.parametrize("name", ["a.ogg", "x/../../etc/a.ogg", "ñandú.ogg", "n" * 300 + ".ogg", ".ogg", "a.b.ogg"])
def test_any_name_gives_a_file_in_the_folder(tmp_path: Path, name: str) -> None:
    """Never outside it, never too long."""
    answer(tmp_path, name, b"x")
    assert csv_path(tmp_path, name).parent == tmp_path
    assert csv_path(tmp_path, name).read_bytes() == b"x"


def test_long_names_that_begin_alike_stay_apart() -> None:
    """They are cut, with a digest of the whole."""
    assert stem_of("n" * 300 + "1.ogg") != stem_of("n" * 300 + "2.ogg")
    assert stem_of("a.ogg") == "a"


def test_what_a_killed_writer_left_is_swept(tmp_path: Path) -> None:
    """A living writer's file is not touched."""
    dead, alive = tmp_path / ".a.csv.999999999.tmp", tmp_path / ".b.csv.1.tmp"
    dead.touch()
    alive.touch()
    sweep(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [alive.name]
