"""`soundscape score`: answers beside the truth, and beside those who hear almost nothing."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from soundscape.settings import get_settings
from trainer.commands import score
from trainer.testing import VOICES, write_folder

STEM = "TST_20260101_000000"


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv("SOUNDSCAPE_DATA_DIR", str(tmp_path / "var"))
    get_settings.cache_clear()
    yield write_folder(tmp_path / "data", clips=4, seconds=1.0)
    get_settings.cache_clear()


def _answers(folder: Path, rows: int = 3) -> Path:
    folder.mkdir()
    lines = [f"{STEM}_{5 * (n + 1)}," + ",".join("0.9" if n == m else "0.2" for m in range(len(VOICES))) for n in range(rows)]
    (folder / f"{STEM}.csv").write_text("\n".join([",".join(("row_id", *VOICES)), *lines]) + "\n", encoding="utf-8")
    return folder


def test_right_answers_score_one_and_the_rivals_stand_beside_them(data: Path, tmp_path: Path) -> None:
    answers = _answers(tmp_path / "answers")
    found = json.loads(CliRunner().invoke(score, ["--data", str(data), "--answers", str(answers), "--json"], catch_exceptions=False).output)
    assert (found["auc"], found["mean_ap"], found["classes"], found["rows"]) == (1.0, 1.0, 3, 3)
    assert [(one["label"], one["there"], one["heard"], one["right"]) for one in found["species"]] == [(label, 1, 1, 1) for label in VOICES]
    assert found["rivals"]["constant"]["auc"] == 0.5
    assert found["rivals"]["band_energy"]["auc"] == 1.0  # three tones: here the bands do give the species away
    assert found["rivals"]["level_and_bandwidth"]["classes"] == 3


def test_what_was_not_answered_is_said_and_not_scored(data: Path, tmp_path: Path) -> None:
    for sounds in (data / "train_soundscapes").glob("*.ogg"):
        sounds.unlink()  # without the sounds there is the constant only, and that is said
    answers = _answers(tmp_path / "answers", rows=2)
    told = CliRunner().invoke(score, ["--data", str(data), "--answers", str(answers)], catch_exceptions=False).output
    assert "1 rows of truth have no answer" in told
    assert "other rivals are left out" in told
