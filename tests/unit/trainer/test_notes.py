"""Notes of long work survive a kill in the middle of one."""

from __future__ import annotations

from pathlib import Path

from trainer.data.notes import noted, noting


def test_a_note_that_was_cut_off_takes_no_other_with_it(tmp_path: Path) -> None:
    path = tmp_path / "notes.jsonl"
    assert noted(path) == []
    with noting(path) as note:
        note({"n": 1})
        assert noted(path) == [{"n": 1}], "on the disk's way at once"
    with path.open("a", encoding="utf-8") as killed:
        killed.write('{"n": 2, "wor')
    for n in (3, 4):
        with noting(path) as note:
            note({"n": n})
    assert noted(path) == [{"n": 1}, {"n": 3}, {"n": 4}]
    assert path.read_text(encoding="utf-8").count("\n") == 4, "no empty lines between whole ones"
