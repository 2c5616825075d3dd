"""Human speech is left out of what teaches, counted, and looked for once."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from soundscape.errors import Invalid
from soundscape.features import FeatureSpec
from soundscape.settings import get_settings
from trainer.data import store
from trainer.data.prepare import Report, prepare
from trainer.data.speech import tagger_for_speech
from trainer.members.audioset import EVENTS, FEATURES
from trainer.members.body import Body
from trainer.testing import write_folder
from trainer.training.learn import mixer_of
from trainer.training.mixing import Recipe
from trainer.training.sound_mixing import LENGTH, SoundMixer

SCORES = {"2/XC2000": [0.9, 0.1, 0.65], "10/XC1001": [0.8, 0.9, 0.7], "BED_20260101_000000": [0.1, 0.7, 0.1]}
"""Of the sounds with speech in them; 12 and 15 s are three windows."""

BODY = Body("tagger_head", FEATURES, ".onnx", "abcd1234", "", False, "", lambda: b"a model", lambda: b"", tuple(EVENTS))


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_folder(tmp_path_factory.mktemp("source") / "data", clips=3, seconds=12.0)


@pytest.fixture
def heard(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The files that were listened to, by a tagger that says SCORES."""
    asked: list[str] = []

    def hear(path: Path, model: Path, spec: FeatureSpec, column: int) -> list[float]:
        assert model.read_bytes() == b"a model" and tuple(EVENTS)[column] == "speech"
        asked.append(path.name)
        return next((scores for name, scores in SCORES.items() if name in str(path)), [0.0] * 3)

    monkeypatch.setattr("trainer.data.prepare.tagger_for_speech", lambda: (BODY, 0.65))
    monkeypatch.setattr("trainer.data.speech.hear_speech", hear)
    return asked


def prepared_in(source: Path, home: Path) -> tuple[store.Prepared, Report, list[str]]:
    said: list[str] = []
    found, report = prepare(source, home, said.append, children=0)
    return found, report, said


def test_windows_with_speech_teach_nothing_and_are_counted(source: Path, tmp_path: Path, heard: list[str]) -> None:
    found, report, said = prepared_in(source, tmp_path)
    by_name = {Path(item.name).name: item for item in found.items}
    assert {name: item.voices for name, item in by_name.items() if item.voices} == {"XC2000.ogg": (0, 2), "BED_20260101_000000.ogg": (1,)}
    assert "XC1001.ogg" not in by_name and [one.reason for one in report.left_out] == ["speech"]
    assert report.speech is not None and report.speech.whole == ("train_audio/10/XC1001.ogg",)
    assert (report.speech.sounds, report.speech.windows, report.speech.of) == (3, 6, 30)
    assert report.counts[store.TRAIN]["windows"] == 8 * 3 - 2
    assert any("Listening for human speech" in one for one in said)
    assert not any("TST" in name for name in heard), "what judges is heard as it is served"
    assert json.loads((found.folder / "report.json").read_text(encoding="utf-8"))["speech"]["limit"] == 0.65
    assert store.load(found.folder) == found


def test_it_is_part_of_the_digest_and_listened_for_once(
    source: Path, tmp_path: Path, heard: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    first, *_ = prepared_in(source, tmp_path)
    notes = first.folder / "raw" / "speech-abcd1234.jsonl"
    lines = notes.read_text(encoding="utf-8").splitlines()
    notes.write_text("\n".join(lines[:4]) + "\n" + lines[4][:20] + "\n", encoding="utf-8")  # killed while it wrote the fifth
    heard.clear()
    again, *_ = prepared_in(source, tmp_path)
    assert again == first and len(heard) == 6
    heard.clear()
    monkeypatch.setattr("trainer.data.prepare.tagger_for_speech", lambda: (BODY, 0.7))
    other, *_ = prepared_in(source, tmp_path)
    assert other.digest != first.digest and [item.name for item in other.items] == [item.name for item in first.items] and heard == []
    monkeypatch.setattr("trainer.data.prepare.tagger_for_speech", lambda: None)
    without, report, said = prepared_in(source, tmp_path)
    assert without.digest != first.digest and report.speech is None and not any(item.voices for item in without.items)
    assert "nobody listened for human speech" in said[-1]


def test_training_hears_none_of_it(source: Path, tmp_path: Path, heard: list[str]) -> None:
    found, *_ = prepared_in(source, tmp_path)
    item = next(item for item in found.items if item.name.endswith("XC2000.ogg"))
    whole = found.decibels(item)
    assert np.array_equal(found.taught(item), whole[:, 320:640])
    mixer = mixer_of(found, store.TRAIN, np.random.default_rng(0), Recipe())
    assert any(np.array_equal(clip.decibels, whole[:, 320:640]) for clip in mixer._clips)
    sounds = SoundMixer(found, store.TRAIN, np.random.default_rng(0), Recipe())
    assert sounds._sound(item).size == LENGTH
    bed = next(item for item in found.items if item.role == store.BED)
    assert sounds._sound(bed).size == 12 * 32_000 - LENGTH


def test_rows_of_a_head_leave_it_out(source: Path, tmp_path: Path, heard: list[str]) -> None:
    from trainer.members.embed import Scenes
    from trainer.members.head import _rows

    found, *_ = prepared_in(source, tmp_path)
    embedded = {item.name: np.full((3, 2, 4), n, np.float32) for n, item in enumerate(found.of(store.TRAIN))}
    labels = len(found.labels)
    composed = Scenes(np.zeros((1, 2, 4), np.float32), np.zeros((1, labels), np.float32), np.ones((1, labels), np.float32))
    rows, truth, weight = _rows(found, embedded, composed, Recipe())
    assert len(rows) == len(truth) == len(weight) == 8 * 3 - 2 + 1


def test_what_the_settings_ask_for(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Nothing without weights, and nothing by a limit of 1; weights that are named and not there are said before the work."""
    get_settings.cache_clear()
    assert tagger_for_speech() is None
    monkeypatch.setenv("SOUNDSCAPE_TAGGER", str(tmp_path / "mn04.pt"))
    get_settings.cache_clear()
    with pytest.raises(Invalid, match="no file is"):
        tagger_for_speech()
    (tmp_path / "mn04.pt").write_bytes(b"weights")
    found = tagger_for_speech()
    assert found is not None and found[1] == 0.65
    monkeypatch.setenv("SOUNDSCAPE_TRAINING_SPEECH_LIMIT", "1")
    get_settings.cache_clear()
    assert tagger_for_speech() is None
    monkeypatch.undo()
    get_settings.cache_clear()
