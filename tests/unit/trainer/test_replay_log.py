"""The journal of a replay that was interrupted."""

from __future__ import annotations

from pathlib import Path

import pytest

from soundscape.errors import Invalid
from trainer.replay.log import JOURNAL, Journal, alone, finished

ASKED = {"topics": ["clips"], "since": None}


def begun(folder: Path, asked: dict[str, object] | None = None) -> Journal:
    """A journal with two batches."""
    journal = Journal(folder)
    journal.begin(asked or ASKED, lambda: {"plan": 7})
    journal.note({"clips:0": 3}, [{"name": "a"}], {"gone": 1})
    journal.note({"clips:0": 5, "clips:1": 2}, [{"name": "b"}], {"gone": 2})
    return journal


def test_a_replay_goes_on_where_it_stopped(tmp_path: Path) -> None:
    begun(tmp_path / "out")
    again = Journal(tmp_path / "out")
    assert again.begin(ASKED, lambda: {"plan": 8}), "it goes on"
    assert again.head["plan"] == 7, "with the offsets of its first start"
    assert again.positions == {"clips:0": 5, "clips:1": 2}
    assert ([one["name"] for one in again.entries], again.left) == (["a", "b"], {"gone": 3})


def test_a_line_that_a_kill_cut_off_counts_for_nothing(tmp_path: Path) -> None:
    """And the next line does not stick to it."""
    begun(tmp_path)
    path = tmp_path / JOURNAL
    path.write_bytes(path.read_bytes()[:-10])
    again = Journal(tmp_path)
    assert again.positions == {"clips:0": 3}
    assert again.begin(ASKED, lambda: {})
    again.note({"clips:0": 4})
    assert Journal(tmp_path).positions == {"clips:0": 4}


def test_a_head_that_a_kill_cut_off_is_written_again(tmp_path: Path) -> None:
    (tmp_path / JOURNAL).write_bytes(b'{"request"')
    again = Journal(tmp_path)
    assert not again.begin(ASKED, lambda: {"plan": 8})
    assert Journal(tmp_path).head["plan"] == 8


def test_a_folder_holds_one_request(tmp_path: Path) -> None:
    begun(tmp_path)
    with pytest.raises(Invalid, match="another request"):
        Journal(tmp_path).begin({**ASKED, "topics": ["recordings"]}, lambda: {})


def test_the_end_leaves_a_manifest_and_no_journal(tmp_path: Path) -> None:
    journal = begun(tmp_path)
    assert finished(tmp_path) is None
    journal.finish({"request": ASKED, "digest": "d"})
    assert finished(tmp_path) == {"request": ASKED, "digest": "d"}
    assert not (tmp_path / JOURNAL).exists()
    (tmp_path / "manifest.json").write_text("{}")
    with pytest.raises(Invalid, match="no manifest"):
        finished(tmp_path)


def test_one_process_at_a_time(tmp_path: Path) -> None:
    with alone(tmp_path), pytest.raises(Invalid, match="another process"), alone(tmp_path):
        pass
