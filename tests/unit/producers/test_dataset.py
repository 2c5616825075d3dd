from __future__ import annotations

import csv
from datetime import datetime
from pathlib import Path

import numpy as np
import pytest
import soundfile

from producers.dataset import write_dataset
from producers.layout import write_ogg
from producers.scenes import PlacedCall, Purpose, labels_of_rows, scene
from producers.species import INHABITANTS
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


def test_ogg_keeps_length_and_level(tmp_path: Path) -> None:
    wave = (0.3 * np.sin(np.arange(32000 * 9) * 0.2)).astype(np.float32)
    write_ogg(tmp_path / "a" / "tone.ogg", wave)
    back, rate = soundfile.read(tmp_path / "a" / "tone.ogg", dtype="float32")
    assert rate == 32000
    assert back.shape == wave.shape
    assert np.std(back) == pytest.approx(np.std(wave), rel=0.02)
