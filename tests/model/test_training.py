"""From a folder of sounds to a release, through Ray and MLflow, in a minute: the whole path of learning on tones."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from soundscape.audio import decode
from soundscape.features import LOG_MEL
from soundscape.release import load_release
from soundscape.settings import Settings, get_settings
from trainer.evaluation.evaluate import score
from trainer.members.models import MODELS, TAGGER
from trainer.releases import quantize
from trainer.testing import write_folder

pytestmark = pytest.mark.filterwarnings("ignore")
"""MLflow, Ray and the exporter of torch deprecate parts of themselves and of each other; those warnings are not ours."""


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Settings]:
    monkeypatch.setenv("SOUNDSCAPE_DATA_DIR", str(tmp_path / "var"))
    monkeypatch.setenv("SOUNDSCAPE_PORT_BASE", "64000")
    get_settings.cache_clear()
    yield get_settings()
    get_settings.cache_clear()


def test_a_release_is_trained_that_serves_what_was_measured_and_is_used_again(settings: Settings, tmp_path: Path) -> None:
    from trainer.commands import train

    data = write_folder(tmp_path / "data", clips=8, seconds=3.0)
    arguments = ["--data", str(data), "--minutes", "0.1"]
    interrupt = signal.getsignal(signal.SIGINT)
    first = CliRunner().invoke(train, arguments, catch_exceptions=False)
    assert first.exit_code == 0, first.output
    assert signal.getsignal(signal.SIGINT) == interrupt, "Ctrl-C is ours again"
    name = first.output.splitlines()[-1]
    release = load_release(settings.releases / name)
    member = release.release.members[0]
    assert member.labels == release.label_names == ("10", "2", "abcdef1")
    assert member.feature_fingerprint == LOG_MEL.fingerprint

    sound = decode((data / "train_soundscapes" / "TST_20260101_000000.ogg").read_bytes())
    scores = quantize.run(release.folder / member.file, LOG_MEL.compute(sound))  # what a worker computes of the same sound
    again = score(np.eye(3, dtype=bool), scores)
    measured = release.release.metrics["soundscapes"]
    assert again.auc == pytest.approx(measured["auc"])
    assert (again.classes, again.rows) == (3, 3)

    assert release.release.metrics["int8"]["onnx_difference"] <= quantize.PARITY
    named = release.release.metrics["named_scores"]
    assert named["on"] == "validation" and len(named["counts"]) == len(named["edges"]) + 1  # how much it names in 6 s, the machine decides
    assert measured["rivals"]["constant"]["auc"] == 0.5
    assert release.release.data_digest and release.release.mlflow_run

    second = CliRunner().invoke(train, arguments, catch_exceptions=False)
    assert second.output.splitlines()[-1] == name
    assert "already" in second.output


HEARS_MELS = [name for name in MODELS if name != TAGGER]
"""The tagger hears sound, and begins with weights that are given by path: tests/unit/trainer/test_tagger.py."""


@pytest.mark.parametrize("name", [pytest.param(name, marks=[pytest.mark.slow] if name == "resnet50" else []) for name in HEARS_MELS])
def test_onnx_answers_as_pytorch_does(tmp_path: Path, name: str) -> None:
    import torch

    from trainer.members.models import build
    from trainer.training.learn import predict

    windows = np.random.default_rng(0).random((5, *LOG_MEL.shape), np.float32)
    torch.manual_seed(0)
    net = build(name, 4)
    path = tmp_path / f"{name}.onnx"
    quantize.export(net, path, LOG_MEL, windows)
    assert np.abs(quantize.run(path, windows) - predict(net, windows)).max() < quantize.PARITY
    assert np.abs(quantize.run(path, windows[:1]) - quantize.run(path, windows)[:1]).max() < quantize.PARITY
