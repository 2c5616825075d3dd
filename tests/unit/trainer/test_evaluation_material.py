"""What judges: apart, never trained on, and frozen."""

from __future__ import annotations

import csv
import json
import shutil
from datetime import date, timedelta
from pathlib import Path

import pytest

from soundscape.errors import Invalid
from soundscape.holdout import held_out
from trainer.data.split import VALIDATION, split
from trainer.evaluation.material import read_material
from trainer.evaluation.trained import Trained, identity
from trainer.testing import write_folder

CLIP = "0b7f9b1c-4a0e-5c8e-9d7a-3f3a1d5a2b11"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_folder(tmp_path / "data", clips=8, seconds=0.3, minutes=2)


def _day(kept: bool) -> date:
    """A day of stream s1 that is held out, or one that is not."""
    day = date(2026, 1, 1)
    while held_out("s1", day) is not kept:
        day += timedelta(days=1)
    return day


def _with(path: Path, **columns: str) -> None:
    """Add columns to a table, the same value in each row."""
    with path.open(newline="") as file:
        rows = [{**row, **columns} for row in csv.DictReader(file)]
    with path.open("w", newline="") as file:
        table = csv.DictWriter(file, list(rows[0]))
        table.writeheader()
        table.writerows(rows)


def test_focal_clips_are_those_of_the_fixed_split_and_soundscapes_stand_apart(folder: Path) -> None:
    from trainer.data.catalog import read_catalog

    catalog, material = read_catalog(folder), read_material(folder)
    sides = split(catalog.clips, catalog.placed)
    wanted = {f"train_audio/{name}" for name, side in sides.items() if side == VALIDATION}
    assert {sound.name for sound in material.of("focal")} == wanted and len(wanted) == 3
    assert [sound.name for sound in material.of("soundscapes")] == [f"train_soundscapes/TST_20260101_000{n}00.ogg" for n in (0, 1)]
    first = material.of("soundscapes")[0]
    assert first.rows == ((0, ("10",)), (1, ("2",)), (2, ("abcdef1",))) and first.group == "TST/2026-01-01"
    assert first.recorded_at is not None and first.recorded_at.hour == 0
    assert first.events[0] == (0.0, 5.0, "10", 10.0)


def test_the_digest_is_of_names_contents_and_truth(folder: Path) -> None:
    before = read_material(folder).digest
    assert read_material(folder).digest == before
    moved = folder.with_name("elsewhere")
    shutil.copytree(folder, moved)
    assert read_material(moved).digest == before, "where it lies is no part of it"
    labels = folder / "soundscape_labels.csv"
    labels.write_text(labels.read_text().replace("_5,10", "_5,2", 1))
    assert read_material(folder).digest != before
    sound = moved / "train_soundscapes" / "TST_20260101_000000.ogg"
    shutil.copy(moved / "train_soundscapes" / "TST_20260101_000100.ogg", sound)
    assert read_material(moved).digest != before


def test_held_out_days_judge_whatever_the_split_says(folder: Path) -> None:
    table = folder / "train.csv"
    _with(table, stream="s1", day=_day(True).isoformat())
    assert len(read_material(folder).of("focal")) == 24
    _with(table, stream="s1", day=_day(False).isoformat())
    assert read_material(folder).of("focal") == (), "one day of one stream is never split"


def test_the_same_sound_under_two_species_is_one_with_both_labels(folder: Path) -> None:
    _with(folder / "train.csv", stream="s1", day=_day(True).isoformat())
    shutil.copy(folder / "train_audio" / "10" / "XC1000.ogg", folder / "train_audio" / "2" / "XC2000.ogg")
    found = read_material(folder).of("focal")
    assert len(found) == 23
    assert [sound.labels for sound in found if len(sound.labels) > 1] == [("10", "2")]


def test_what_a_release_was_trained_on_is_left_out_by_recording_and_by_bytes(folder: Path) -> None:
    material = read_material(folder)
    focal, soundscape = material.of("focal")[0], material.of("soundscapes")[1]
    left = material.without([Trained(recordings=frozenset({focal.recording})), Trained(digests=frozenset({soundscape.digest}))])
    assert left.dropped == (focal.name, soundscape.name)
    assert {one.name for one in left.sounds} == {one.name for one in material.sounds} - set(left.dropped)
    assert left.digest != material.digest
    assert material.without([Trained()]).digest == material.digest


def test_a_dataset_of_the_log_brings_its_own_evaluation(folder: Path) -> None:
    own = folder / "evaluation"
    own.mkdir()
    shutil.copytree(folder / "train_soundscapes", own / "train_soundscapes")
    (own / "train_soundscapes" / "TST_20260101_000000.ogg").rename(own / "train_soundscapes" / f"{CLIP}_5.ogg")
    (own / "soundscape_labels.csv").write_text(
        "row_id,labels,stream,day,recorded_at,site\n"
        f"{CLIP}_5_5,10,guide,2026-05-01,2026-05-02T01:30:00+00:00,el-silencio\n"
    )
    (folder / "soundscape_labels.csv").unlink()
    found = read_material(folder).of("soundscapes")
    assert [(one.recording, one.group, one.rows) for one in found] == [(f"{CLIP}_5", "guide/2026-05-01", ((0, ("10",)),))]
    assert found[0].recorded_at is not None and found[0].recorded_at.hour == 20, "night is local, and the log's times are in UTC"
    assert identity(f"{CLIP}_5") == identity(f"{CLIP}_0") == CLIP
    for learnt in (CLIP, "guide/2026-05-01"):
        assert read_material(folder).without([Trained(recordings=frozenset({learnt}))]).dropped == (found[0].name,)


def test_a_folder_that_cannot_judge_is_said(tmp_path: Path, folder: Path) -> None:
    with pytest.raises(Invalid, match=r"has no train\.csv"):
        read_material(tmp_path)
    shutil.rmtree(folder / "train_audio")
    shutil.rmtree(folder / "train_soundscapes")
    with pytest.raises(Invalid, match="nothing to judge by"):
        read_material(folder)
    (folder / "soundscape_labels.csv").write_text(json.dumps({}))
    with pytest.raises(Invalid, match="lacks the column"):
        read_material(folder)
