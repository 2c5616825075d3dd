"""Which form of a trained network a release serves: int8, unless quantizing has ruined it or it is too large."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from soundscape.features import LOG_MEL
from soundscape.release import LoadedRelease, load_release
from trainer.data import store
from trainer.data.prepare import prepare
from trainer.releases import package as module
from trainer.releases import quantize
from trainer.releases.package import MAX_MAP_LOSS, Origin, package
from trainer.testing import write_folder

pytestmark = pytest.mark.filterwarnings("ignore")
"""The exporter of torch deprecates parts of itself; those warnings are not ours."""


class Bands(nn.Module):
    """The loudest moment of each band, and one linear layer, fitted in closed form: enough for tones."""

    def __init__(self, prepared: store.Prepared) -> None:
        super().__init__()
        clips = prepared.of(store.TRAIN)
        peaks = np.concatenate([prepared.windows(item) for item in clips]).max(axis=2).astype(np.float64)
        truth = prepared.truth(clips)[0]
        bound = np.concatenate([peaks, np.ones((len(peaks), 1))], axis=1)
        weights = np.linalg.solve(bound.T @ bound + 0.1 * np.eye(bound.shape[1]), bound.T @ (8.0 * truth - 4.0))
        self.first = nn.Conv1d(LOG_MEL.n_mels, LOG_MEL.n_mels, 1, bias=False)
        """Every band as it is: something that int8 rounds, as it leaves the last layer alone."""
        self.last = nn.Linear(LOG_MEL.n_mels, truth.shape[1])
        with torch.no_grad():
            nn.init.dirac_(self.first.weight)
            self.last.weight.copy_(torch.from_numpy(weights[:-1].T))
            self.last.bias.copy_(torch.from_numpy(weights[-1]))

    def forward(self, window: torch.Tensor) -> torch.Tensor:
        """Logits (batch, labels) of windows (batch, n_mels, frames)."""
        out: torch.Tensor = self.last(self.first(window).amax(2))
        return out


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> store.Prepared:
    home = tmp_path_factory.mktemp("package")
    return prepare(write_folder(home / "data", clips=8, seconds=3.0, minutes=0), home / "datasets", lambda _: None, children=0)[0]


Packed = tuple[LoadedRelease, str]


@pytest.fixture
def packed(prepared: store.Prepared, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], Packed]:
    """Package the network; the release and what was said."""
    monkeypatch.setattr(module, "MIXTURES", 60)

    def run() -> Packed:
        said: list[str] = []
        package(prepared, Bands(prepared), "bands", tmp_path / "release", Origin("bands", None, None, {}), "CC0", said.append)
        return load_release(tmp_path / "release"), "\n".join(said)

    return run


def served(release: LoadedRelease) -> tuple[str, str, dict[str, Any]]:
    """File, precision and what was measured of both forms."""
    (member,) = release.release.members
    return member.file, member.precision, release.release.metrics["int8"]


def test_a_sound_int8_is_served(packed: Callable[[], Packed]) -> None:
    release, said = packed()
    file, precision, measured = served(release)
    assert (file, precision, measured["served"]) == ("bands-int8.onnx", "int8", "int8")
    assert measured["fp32_map"] > 0.9 and measured["fp32_map"] - measured["map"] <= MAX_MAP_LOSS
    assert "Served: int8." in said


def test_a_ruined_int8_leads_to_float32(packed: Callable[[], Packed], prepared: store.Prepared, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its ranges come from silence: it clips every call to the same. The scores are those of what is served."""
    real = quantize.quantize
    monkeypatch.setattr(quantize, "quantize", lambda source, target, windows: real(source, target, np.full_like(windows, 1e-3)))
    release, said = packed()
    file, precision, measured = served(release)
    assert measured["fp32_map"] - measured["map"] > MAX_MAP_LOSS
    assert (file, precision, measured["served"]) == ("bands-fp32.onnx", "fp32", "fp32")
    assert release.release.metrics[measured["judged_on"]]["mean_ap"] == pytest.approx(measured["fp32_map"])
    assert "Served: float32." in said


def test_an_int8_that_is_too_large_leads_to_float32(packed: Callable[[], Packed], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_INT8_BYTES", 100)
    assert served(packed()[0])[:2] == ("bands-fp32.onnx", "fp32")
