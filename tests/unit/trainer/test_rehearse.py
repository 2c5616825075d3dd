"""The folders of a rehearsal, and what is said of its outcome; training and hearing are tests/model/test_rehearse.py's."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from datetime import date, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from soundscape.errors import Invalid
from soundscape.settings import get_settings
from trainer.data.catalog import Catalog, read_catalog
from trainer.data.split import TRAIN, split
from trainer.data.time_split import NEW, time_split
from trainer.evaluation.evaluate import difference
from trainer.evaluation.material import EvaluationSet, read_material
from trainer.evaluation.rows import Answers, Heard, Rows
from trainer.retraining.folders import choose, folders_of, windows_of
from trainer.retraining.rehearse import rehearse
from trainer.retraining.verdict import Verdict, gained, judged, lost
from trainer.testing import write_folder

CLIPS = 10


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Ten dated clips of each of three labels, of two windows each."""
    folder = write_folder(tmp_path / "data", clips=CLIPS, seconds=6.0)
    days = [(clip.filename, date(2020, 1, 1) + timedelta(days=n % CLIPS)) for n, clip in enumerate(read_catalog(folder).clips)]
    (folder / "dates.csv").write_text("\n".join(["filename,date", *(f"{name},{day}" for name, day in days)]) + "\n")
    return folder


def _names(catalog: Catalog) -> set[str]:
    return {clip.filename for clip in catalog.clips}


def test_three_folders_hold_everything_once_and_only_the_new_one_is_learnt_from(data: Path, tmp_path: Path) -> None:
    found = folders_of(data, tmp_path / "home", 300)
    older, new, later = (read_catalog(folder) for folder in (found.older, found.new, found.later))
    assert [len(one.clips) for one in (older, new, later)] == [21, 5, 4]
    assert _names(older) | _names(new) | _names(later) == _names(read_catalog(data))
    assert all(int(Path(clip.filename).stem[2:]) % 1000 < 7 for clip in older.clips)
    assert older.labels == new.labels == later.labels
    assert older.unlabelled and older.rows and not new.unlabelled and not later.rows
    assert set(split(new.clips, new.placed).values()) == {TRAIN}
    assert len(read_material(found.later).of("focal")) == 4, "all that is later judges"
    assert (found.windows, found.chosen) == (10, 5)
    for catalog in (older, new, later):
        assert all((catalog.folder / "train_audio" / clip.filename).is_symlink() for clip in catalog.clips)


def test_the_same_folders_are_used_again_and_other_data_gives_others(data: Path, tmp_path: Path) -> None:
    first = folders_of(data, tmp_path / "home", 300)
    stamp = os.stat(first.older / "train.csv").st_mtime_ns  # noqa: PTH116
    assert folders_of(data, tmp_path / "home", 300) == first
    assert os.stat(first.older / "train.csv").st_mtime_ns == stamp  # noqa: PTH116
    assert folders_of(data, tmp_path / "home", 4).home != first.home
    (data / "dates.csv").unlink()
    other = folders_of(data, tmp_path / "home", 300)
    assert other.home != first.home and other.split.undated == 3 * CLIPS


def test_no_more_windows_are_learnt_than_were_asked_for_and_every_species_has_its_turn(data: Path) -> None:
    catalog = read_catalog(data)
    parts = time_split(catalog.clips, catalog.placed)
    assert {windows_of(data / "train_audio" / clip.filename) for clip in catalog.clips} == {2}
    clips, windows = choose(catalog, parts, 7)
    assert windows == 6 and {clip.labels[0] for clip in clips} == set(catalog.labels)
    assert all(parts.sides[clip.filename] == NEW for clip in clips)
    assert choose(catalog, parts, 1) == ([], 0)


def test_a_folder_with_nothing_newer_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Invalid, match="nothing newer"):
        folders_of(write_folder(tmp_path / "data", clips=1, seconds=0.5), tmp_path / "home", 300)
    assert windows_of(tmp_path / "data" / "train.csv") == 0


def _heard(better: float, recordings: int = 40) -> Verdict:
    """A verdict on fake scores: four species, and the retrained release hears its calls louder by so much."""
    rng = np.random.default_rng(0)
    truth = np.eye(4, dtype=bool)[np.arange(recordings * 2) // 2 % 4]
    champion = rng.normal(0, 1, truth.shape) + truth
    names = np.array([f"XC{n // 2}" for n in range(len(truth))])
    retrained = rng.normal(0, 1, truth.shape) + (1 + better) * truth
    found = judged(truth, champion, retrained, names)
    assert found is not None
    return found


def test_a_release_that_hears_more_is_above_0_and_one_that_hears_less_is_not() -> None:
    more, same, less = _heard(1.5), _heard(0.0), _heard(-1.5)
    assert more.above_0 and not more.below_0 and gained(more).startswith("above 0: ")
    assert (more.windows, more.recordings, more.classes) == (80, 40, 4)
    assert more.low < more.difference < more.high
    assert more.difference == pytest.approx(more.retrained - more.champion)
    assert not same.above_0 and not same.below_0
    assert less.below_0 and "base: down" in lost(less) and less.needed is None
    assert "not mend" in gained(less)
    assert lost(more).startswith("base: not down") and "no loss shown" not in lost(more)


def test_the_interval_is_the_two_sided_one_of_95_percent() -> None:
    rng, truth = np.random.default_rng(1), np.eye(3, dtype=bool)[np.arange(60) % 3]
    first, second = (rng.normal(0, 1, truth.shape) + truth for _ in range(2))
    names = np.array([f"XC{n // 2}" for n in range(60)])
    found, wanted = judged(truth, first, second, names), difference(truth, second, first, names, (2.5, 97.5))
    assert found is not None and wanted is not None
    assert (found.difference, found.low, found.high, found.recordings) == (wanted.mean, wanted.low, wanted.high, wanted.groups)


def test_what_is_not_shown_is_said_with_n_the_shortfall_and_what_it_would_take() -> None:
    found = Verdict(0.5, 0.52, 0.02, -0.02, 0.07, windows=90, recordings=40, classes=12)
    assert found.shortfall == pytest.approx(0.02)
    assert found.needed == 160  # twice as far from the mean as 0 is: four times as many
    said = gained(found)
    assert said.startswith("not shown: 95 % interval -0.020 to +0.070, n = 90 windows of 40 recordings, 12 classes, shortfall 0.020")
    assert "about 160 recordings" in said
    assert "no loss shown" in lost(Verdict(0.5, 0.49, -0.01, -0.03, 0.01, 90, 40, 12))


@pytest.fixture
def trained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, float]]:
    """Nobody trains and nobody hears: `first` and `again` answer to a call with the score given, above noise. No stack is up."""
    scores = {"first": 0.1, "again": 0.9}
    named = {name: SimpleNamespace(release=SimpleNamespace(name=name, data_digest=None)) for name in scores}

    def hear_set(material: EvaluationSet, releases: dict[str, Any]) -> Heard:
        column = {label: n for n, label in enumerate(material.labels)}
        which = np.arange(len(material.sounds))
        truth = np.zeros((len(which), len(column)), bool)
        truth[which, [column[sound.labels[0]] for sound in material.sounds]] = True
        noise = np.random.default_rng(0).random(truth.shape)
        answers = {
            name: Answers((noise + scores[one.release.name] * truth).astype(np.float32), truth, ()) for name, one in releases.items()
        }
        nothing = np.zeros(len(which), np.float32)
        rows = Rows("focal", material.sounds, which, which * 0, truth, np.zeros(truth.shape, np.float32), nothing, answers)
        return Heard(material, {"focal": rows}, [])

    monkeypatch.setattr("trainer.data.prepare.prepare", lambda *_: (None, None))
    monkeypatch.setattr("trainer.training.train.train", lambda *_: named["first"])
    monkeypatch.setattr("trainer.retraining.retrain.train_on", lambda *_: (named["again"], None))
    monkeypatch.setattr("trainer.evaluation.hear.Ears", lambda loaded: loaded)
    monkeypatch.setattr("trainer.evaluation.rows.hear_set", hear_set)
    monkeypatch.setenv("SOUNDSCAPE_DATA_DIR", str(tmp_path / "var"))
    get_settings.cache_clear()
    yield scores
    get_settings.cache_clear()


def _rehearsed(data: Path, *more: str) -> str:
    done = CliRunner().invoke(rehearse, ["--data", str(data), *more], catch_exceptions=False)
    assert done.exit_code == 0
    return done.stdout


def test_the_command_sets_the_retrained_beside_the_champion_and_says_which_is_better(data: Path, trained: dict[str, float]) -> None:
    found = json.loads(_rehearsed(data, "--json"))
    assert (found["champion"], found["release"]) == ("first", "again")
    assert found["split"] == {"older": 21, "new": 5, "later": 4, "undated": 0}
    assert found["later"]["recordings"] == 4 and found["base"]["recordings"] >= 3
    for part in ("later", "base"):
        assert found[part]["retrained"] > found[part]["champion"] and found[part]["difference"] > 0
    assert json.loads((Path(found["folder"]) / "again.json").read_text()) == found
    trained |= {"first": 0.9, "again": 0.1}
    assert json.loads(_rehearsed(data, "--json"))["later"]["difference"] < 0


def test_dated_recordings_are_no_stand_in(data: Path, trained: dict[str, float]) -> None:
    assert "have no date" not in _rehearsed(data)


def test_the_command_says_plainly_what_is_a_stand_in_and_what_is_short(data: Path, trained: dict[str, float]) -> None:
    (data / "dates.csv").unlink()
    told = _rehearsed(data)
    assert "30 of 30 recordings have no date; the hash of their id stands in" in told
    assert "10 of 5 recordings, all that the new half holds (up to 300 were asked for)" in told
    assert "(at most 4 were asked for)" in _rehearsed(data, "--windows", "4")
    last = told.splitlines()[-3:]
    assert last[0].startswith(("above 0: ", "not shown: ")) and last[1].startswith("base: ") and last[2] == "again"


def test_where_nothing_can_be_scored_that_is_said() -> None:
    scores = np.zeros((4, 2))
    assert judged(np.zeros((4, 2), bool), scores, scores, np.array(["a", "a", "b", "b"])) is None
    assert judged(np.eye(4, 2, dtype=bool), scores, scores, np.array(["a"] * 4)) is None
    assert gained(None).startswith("not shown") and "not measured" in lost(None)
