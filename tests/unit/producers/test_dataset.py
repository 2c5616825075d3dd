from __future__ import annotations

import csv
import json
from datetime import date, datetime
from pathlib import Path

import numpy as np
import pytest
import soundfile

from producers.dataset import Recipe, focal, write_dataset
from producers.layout import write_ogg
from producers.scenes import PlacedCall, Purpose, labels_of_rows, scene, seed_of
from producers.species import BY_LABEL, INHABITANTS, individual
from soundscape.errors import Invalid
from soundscape.taxonomy import read_taxonomy

TRUTH = ("train.csv", "taxonomy.csv", "soundscape_events.csv", "soundscape_labels.csv")


@pytest.fixture(scope="module")
def forest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("forest")
    write_dataset(folder, 4, clips_per_species=1, minutes=2, workers=1, progress=False)
    return folder


def _rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_every_focal_clip_is_there(forest: Path) -> None:
    rows = _rows(forest / "train.csv")
    assert sorted(row["primary_label"] for row in rows) == [one.label for one in INHABITANTS]
    for row in rows:
        assert row["secondary_labels"] == "['']"
        info = soundfile.info(forest / "train_audio" / row["filename"])
        assert (info.samplerate, info.channels, info.subtype) == (32000, 1, "VORBIS")
        assert info.duration >= 4.9


def test_taxonomy_reads_back_with_spanish_names(forest: Path) -> None:
    assert read_taxonomy(forest / "taxonomy.csv") == [one.species for one in INHABITANTS]


def test_truth_tells_what_the_minutes_hold(forest: Path) -> None:
    events, labels = _rows(forest / "soundscape_events.csv"), _rows(forest / "soundscape_labels.csv")
    truth = {row["row_id"]: row["labels"] for row in labels}
    for index, path in enumerate(sorted((forest / "train_soundscapes").iterdir())):
        assert soundfile.info(path).frames == 60 * 32000
        datetime.strptime(path.stem.split("_", 1)[1], "%Y%m%d_%H%M%S")  # noqa: DTZ007
        here = [row for row in events if row["filename"] == path.name]
        calls = [
            PlacedCall(float(row["start"]), float(row["end"]), row["primary_label"], float(row["snr_db"]), row["clip"])
            for row in here
        ]
        assert calls == scene((4, Purpose.MINUTE, index))[1]
        assert [truth[f"{path.stem}_{end}"] for end in range(5, 65, 5)] == [" ".join(one) for one in labels_of_rows(calls)]


def test_an_interrupted_forest_grows_on_to_the_same_truth(forest: Path, tmp_path: Path) -> None:
    write_dataset(tmp_path, 4, clips_per_species=1, minutes=2, workers=1, progress=False)
    kept = next((tmp_path / "train_soundscapes").iterdir())
    before = kept.read_bytes()
    (tmp_path / "synthesis.json").rename(tmp_path / ".synthesis.started.json")
    lost = next((tmp_path / "train_audio").rglob("*.ogg"))
    lost.unlink()
    for name in TRUTH:
        (tmp_path / name).unlink()
    write_dataset(tmp_path, 4, clips_per_species=1, minutes=2, workers=1, progress=False)
    assert lost.exists()
    assert kept.read_bytes() == before
    for name in TRUTH:
        assert (tmp_path / name).read_bytes() == (forest / name).read_bytes()
    assert not list(tmp_path.rglob("*.part"))


def test_another_recipe_is_refused(forest: Path) -> None:
    with pytest.raises(Invalid, match="another recipe"):
        write_dataset(forest, 5, clips_per_species=1, minutes=2, workers=1, progress=False)


def test_a_drift_moves_the_newest_clips_and_no_other_over_the_same_beds(tmp_path: Path) -> None:
    plain, drifted = (tmp_path / name for name in ("plain", "drifted"))
    write_dataset(plain, 4, clips_per_species=3, minutes=1, workers=1, progress=False)
    write_dataset(drifted, 4, clips_per_species=3, minutes=1, drift=1.0, workers=1, progress=False)
    rows = _rows(drifted / "train.csv")
    assert [{key: value for key, value in row.items() if key != "date"} for row in rows] == _rows(plain / "train.csv")
    for row in rows:
        before, after = (soundfile.read(folder / "train_audio" / row["filename"])[0] for folder in (plain, drifted))
        newest = row["filename"].endswith("00002.ogg")
        assert before.shape == after.shape
        assert np.array_equal(before, after) is not newest
    for name in TRUTH[1:]:
        assert (drifted / name).read_bytes() == (plain / name).read_bytes()
    by_species: dict[str, list[date]] = {}
    for row in rows:
        by_species.setdefault(row["primary_label"], []).append(date.fromisoformat(row["date"]))
    for days in by_species.values():
        assert days == sorted(set(days)) and (days[-1] - days[0]).days == 486  # two thirds of two years


def test_a_drifted_call_is_the_same_animals_higher_by_that_much(monkeypatch: pytest.MonkeyPatch) -> None:
    label = next(one.label for one in INHABITANTS if one.species.scientific == "Tinamulus undosus")
    monkeypatch.setattr("producers.dataset.bed", lambda _, n: np.full(n, 1e-4, np.float32))

    def pitch(drift: float) -> float:
        wave = focal(seed_of(4, 9), label, 40.0, drift)
        return float(np.fft.rfftfreq(len(wave), 1 / 32000)[1:][np.abs(np.fft.rfft(wave))[1:].argmax()])

    rng = seed_of(4, 9)
    assert pitch(0.0) == pytest.approx(individual(BY_LABEL[label], rng).pitch_hz, rel=0.4)
    assert pitch(0.7) / pitch(0.0) == pytest.approx(2**0.7, rel=0.2)


def test_without_a_drift_not_a_byte_is_other_and_an_older_forest_is_accepted(forest: Path) -> None:
    assert json.loads((forest / "synthesis.json").read_text()) == {
        "seed": 4, "clips_per_species": 1, "minutes": 2, "recorder": "SYN", "version": 1,
    }  # fmt: skip
    assert "date" not in _rows(forest / "train.csv")[0]
    write_dataset(forest, 4, clips_per_species=1, minutes=2, workers=1, progress=False)
    with pytest.raises(Invalid, match="another recipe"):
        write_dataset(forest, 4, clips_per_species=1, minutes=2, drift=0.5, workers=1, progress=False)
    assert [Recipe(1, 10, drift=0.5).drift_of(n) for n in (0, 6, 7, 9)] == [0.0, 0.0, 0.5, 0.5]


def test_ogg_keeps_length_and_level(tmp_path: Path) -> None:
    wave = (0.3 * np.sin(np.arange(32000 * 9) * 0.2)).astype(np.float32)
    write_ogg(tmp_path / "a" / "tone.ogg", wave)
    back, rate = soundfile.read(tmp_path / "a" / "tone.ogg", dtype="float32")
    assert rate == 32000
    assert back.shape == wave.shape
    assert np.std(back) == pytest.approx(np.std(wave), rel=0.02)
