"""What a release is sure to hear in recordings without labels becomes truth of the windows that are composed over them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from soundscape.errors import Invalid
from trainer.data import store
from trainer.data.prepare import prepare
from trainer.testing import write_folder
from trainer.training import pseudo
from trainer.training.learn import mixer_of
from trainer.training.mixing import Recipe
from trainer.training.sound_mixing import SoundMixer

HEARD = np.array([[0.95, 0.01, 0.5], [0.01, 0.9, 0.01], [0.02, 0.03, 0.04]], np.float32)
"""Of the bed's three windows: the first label is sure, nobody knows of the third; then the second; then none."""
BED_ALONE = Recipe(calls=(1.0,), clean=0.0, recorded_bed=1.0, masks=0)


@pytest.fixture
def prepared(tmp_path: Path) -> store.Prepared:
    return prepare(write_folder(tmp_path / "data", clips=6, seconds=3.0), tmp_path / "datasets", lambda _: None, children=0)[0]


@pytest.fixture
def teacher(prepared: store.Prepared, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A release that hears HEARD, and counts how often it was asked."""
    labels = ("0", *prepared.labels)
    made = SimpleNamespace(digest="d" * 64, label_names=labels, release=SimpleNamespace(name="teacher"), asked=0)

    def answer(_: Any) -> Any:
        made.asked += 1
        return SimpleNamespace(unweighted=np.hstack([np.ones((3, 1), np.float32), HEARD]))

    monkeypatch.setattr(pseudo, "Ears", lambda _: SimpleNamespace(answer=answer))
    monkeypatch.setattr(pseudo, "specs_of", lambda _: ())
    return made


def test_beds_say_what_a_release_is_sure_of(prepared: store.Prepared, teacher: Any) -> None:
    """In windows of log-mels and of sound alike; where it is not sure nothing is known, and without pseudo-labels nothing calls."""
    said: list[str] = []
    name = pseudo.hear(prepared, teacher, said.append, lambda _n, _of: None)
    assert pseudo.hear(prepared, teacher, said.append, lambda _n, _of: None) == name and teacher.asked == 1, "heard once"
    assert said[0] == "teacher is sure of 2 calls in 3 windows of 1 recordings without labels."
    wanted = {((1.0, 0.0, 0.0), (1.0, 1.0, 0.0)), ((0.0, 1.0, 0.0), (1.0, 1.0, 1.0)), ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))}
    for recipe, expected in ((replace(BED_ALONE, pseudo=name), wanted), (BED_ALONE, {((0.0,) * 3, (1.0,) * 3)})):
        rng = np.random.default_rng(0)
        for mixer in (mixer_of(prepared, store.TRAIN, rng, recipe), SoundMixer(prepared, store.TRAIN, rng, recipe)):
            drawn = [mixer.window() for _ in range(30)]
            assert {(tuple(truth.tolist()), tuple(weight.tolist())) for _, truth, weight in drawn} == expected


def test_a_window_with_speech_in_it_teaches_nothing_of_what_was_heard_there(prepared: store.Prepared, teacher: Any) -> None:
    spoken = replace(prepared, items=tuple(replace(item, voices=(0,)) if item.role == store.BED else item for item in prepared.items))
    name = pseudo.hear(spoken, teacher, lambda _: None, lambda _n, _of: None)
    rng, recipe = np.random.default_rng(0), replace(BED_ALONE, pseudo=name)
    for mixer in (mixer_of(spoken, store.TRAIN, rng, recipe), SoundMixer(spoken, store.TRAIN, rng, recipe)):
        assert {tuple(mixer.window()[1].tolist()) for _ in range(30)} == {(0.0, 1.0, 0.0), (0.0, 0.0, 0.0)}


def test_what_cannot_teach_is_refused(prepared: store.Prepared, teacher: Any) -> None:
    strange: Any = SimpleNamespace(**{**vars(teacher), "label_names": prepared.labels[1:]})
    silent = replace(prepared, items=tuple(item for item in prepared.items if item.role != store.BED))
    for data, release, says in ((prepared, strange, "does not know"), (silent, teacher, "no soundscapes without labels")):
        with pytest.raises(Invalid, match=says):
            pseudo.hear(data, release, lambda _: None, lambda _n, _of: None)
