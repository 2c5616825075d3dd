"""Answers joined with the truth."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from soundscape.errors import Invalid
from trainer.evaluation.answers import join
from trainer.testing import write_folder

STEM = "TST_20260101_000000"


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_folder(tmp_path_factory.mktemp("scored") / "data", clips=1, seconds=0.5)


def test_rows_and_columns_are_joined_by_name(data: Path, tmp_path: Path) -> None:
    (tmp_path / f"{STEM}.csv").write_text(
        f"row_id,abcdef1,10,other\n{STEM}_10,0.1,0.2,0.9\n{STEM}_5,0.3,0.4,0.9\n{STEM}_20,1,1,1\n", encoding="utf-8"
    )
    joined = join(data, tmp_path)
    assert joined.row_ids == (f"{STEM}_5", f"{STEM}_10")
    assert joined.scores.ravel().tolist() == pytest.approx([0.4, 0.0, 0.3, 0.2, 0.0, 0.1])  # 10, 2, abcdef1; 10, …
    assert joined.truth.tolist() == [[True, False, False], [False, True, False]]
    assert joined.unanswered == (f"{STEM}_15",)
    assert joined.unknown == ("2",)


def test_json_lines_give_the_same_as_csv(data: Path, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(f"row_id,10,2,abcdef1\n{STEM}_5,0.1,0.2,0.3\n", encoding="utf-8")
    (tmp_path / "a.jsonl").write_text(json.dumps({"row_id": f"{STEM}_5", "scores": {"abcdef1": 0.3, "10": 0.1, "2": 0.2}}) + "\n", "utf-8")
    assert (join(data, tmp_path / "a.csv").scores == join(data, tmp_path / "a.jsonl").scores).all()


@pytest.mark.parametrize("text", ["id,10\nx,1\n", f"row_id,10\n{STEM}_5,loud\n", "row_id,10\nANOTHER_5,0.5\n"])
def test_answers_that_cannot_be_joined_are_refused(data: Path, tmp_path: Path, text: str) -> None:
    (tmp_path / "a.csv").write_text(text, encoding="utf-8")
    with pytest.raises(Invalid):
        join(data, tmp_path)
