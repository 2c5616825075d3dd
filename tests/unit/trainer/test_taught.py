"""A student learns what its teacher said: heard once, kept, mixed with the truth, and judged beside the teacher."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from soundscape.errors import Invalid
from soundscape.release import LoadedRelease
from soundscape.settings import Settings, get_settings
from trainer.data import store
from trainer.data.prepare import prepare
from trainer.members.models import STUDENT, build
from trainer.releases import quantize
from trainer.releases.package import MAX_STUDENT_BYTES, Origin, package
from trainer.testing import write_folder
from trainer.training import taught
from trainer.training.distil import distil
from trainer.training.learn import lessons
from trainer.training.plan import Plan

pytestmark = pytest.mark.filterwarnings("ignore")
"""The exporter of torch deprecates parts of itself; those warnings are not ours."""


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> store.Prepared:
    home = tmp_path_factory.mktemp("taught")
    return prepare(write_folder(home / "data", clips=4, seconds=1.0, minutes=2), home / "datasets", lambda _: None, children=0)[0]


@pytest.fixture(scope="module")
def teacher(prepared: store.Prepared) -> LoadedRelease:
    """A network that has learnt nothing."""
    origin = Origin("teacher", None, None, {})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("trainer.releases.package.MIXTURES", 40)
        net = build("small", len(prepared.labels))
        return package(prepared, net, "small", prepared.folder / "teacher", origin, "none", lambda _: None)


def test_what_was_heard_is_not_heard_again_and_a_batch_is_between_teacher_and_truth(
    prepared: store.Prepared, teacher: LoadedRelease, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(taught, "TOGETHER", 6)
    monkeypatch.setattr(taught, "STRIPES", ())
    home = taught._home(prepared, teacher.digest)
    home.mkdir(parents=True)
    taught.lesson(prepared.folder, teacher.folder, 0, home / "00000.npz")
    told: list[tuple[int, int]] = []
    taught.hear(prepared, teacher, 6, lambda n, of: told.append((n, of)))
    assert told == [(1, 1)], "the part that is there is counted, and nothing is left to hear"
    with np.load(home / "00000.npz") as kept:
        said, truth, weight, windows = (kept[name].astype(np.float32) for name in ("said", "truth", "weight", "windows"))
    plan = Plan(STUDENT, minutes=1, batch=6, taught_by=teacher.digest)
    some, wanted, counts = next(lessons(prepared, plan, np.random.default_rng(0)))
    order = [int(np.abs(windows - one).sum(axis=(1, 2)).argmin()) for one in some]
    assert sorted(order) == list(range(6)) and (counts == 1).all()
    trust = np.where(weight > 0, taught.TRUST, 1.0)
    np.testing.assert_allclose(wanted, (trust * said + (1 - trust) * truth)[order], atol=1e-6)
    direct = quantize.sigmoid(quantize.run(teacher.folder / teacher.release.members[0].file, windows))
    np.testing.assert_allclose(said, direct, atol=0.05)


def test_some_lessons_are_a_clip_as_it_was_recorded(
    prepared: store.Prepared, teacher: LoadedRelease, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(taught, "TOGETHER", 4)
    monkeypatch.setattr(taught, "SINGLE", 1.0)
    taught.lesson(prepared.folder, teacher.folder, 0, tmp_path / "0.npz")
    with np.load(tmp_path / "0.npz") as kept:
        windows, truth = kept["windows"].astype(np.float32), kept["truth"]
    clips = [prepared.windows(item)[0].astype(np.float32) for item in prepared.of(store.TRAIN)]
    assert (truth.sum(axis=1) == 1).all(), "one species each, and never none"
    quiet = [(window <= 0).mean() for window in windows]
    assert min(quiet) > 0.5, "a clip of one second leaves four of silence"
    whole = [min(np.abs(window - clip).mean() for clip in clips) for window in windows]
    assert min(whole) < 0.01, "where it lies at the beginning it is what was prepared of the clip"


def test_a_student_is_its_teachers_equal_where_it_is_the_teacher(prepared: store.Prepared, teacher: LoadedRelease) -> None:
    found = taught.against(prepared, teacher, teacher)
    assert found["soundscapes"] == {"mean": 0.0, "low": 0.0, "high": 0.0}


@pytest.mark.slow
def test_a_student_of_206_species_fits_a_phone_in_either_form(prepared: store.Prepared, tmp_path: Path) -> None:
    windows = np.random.default_rng(0).random((16, *prepared.spec.shape), np.float32)
    quantize.export(build(STUDENT, 206), tmp_path / "fp32.onnx", prepared.spec, windows)
    quantize.quantize(tmp_path / "fp32.onnx", tmp_path / "int8.onnx", windows)
    assert (tmp_path / "int8.onnx").stat().st_size < (tmp_path / "fp32.onnx").stat().st_size <= MAX_STUDENT_BYTES


def test_a_teacher_of_other_data_is_refused_before_it_hears(
    prepared: store.Prepared, teacher: LoadedRelease, settings: Settings, monkeypatch: pytest.MonkeyPatch, loaded: LoadedRelease
) -> None:
    with pytest.raises(Invalid, match="tones was trained on other data"):
        taught.require_same_data(prepared, loaded)
    with pytest.raises(Invalid, match="other data"):
        taught.require_same_data(replace(prepared, digest="another"), teacher)
    monkeypatch.setenv("SOUNDSCAPE_DATA_DIR", str(settings.data_dir))
    get_settings.cache_clear()
    done = CliRunner().invoke(distil, ["nobody", "--data", str(prepared.source)])
    assert isinstance(done.exception, Invalid) and "nobody" in done.exception.detail
    get_settings.cache_clear()
