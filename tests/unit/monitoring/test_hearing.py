"""What the bare loops hear: the plain one the same numbers as ours, BirdNET rows of 3 s at 48 kHz; and where CPU time goes."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnx
import pytest

from monitoring.bare import Arrangement, bare_speed
from monitoring.bench_bare import way_of
from monitoring.cpu import cpu_seconds, cpu_shares
from monitoring.hearing import Way, for_birdnet
from monitoring.plain import by_librosa
from monitoring.sound import forest
from soundscape.audio import decode
from soundscape.errors import Invalid
from soundscape.features import LOG_MEL
from soundscape.settings import Settings


def test_the_plain_loop_makes_the_same_log_mels() -> None:
    """But for the frames at a window's edges, where librosa, window by window, hears no neighbour; the last window is padded."""
    wave = decode(forest(12.0, 3))
    ours, plain = LOG_MEL.compute(wave), by_librosa(wave)
    assert plain.shape == ours.shape == (3, *LOG_MEL.shape)
    assert plain.dtype == ours.dtype
    assert np.abs(plain - ours)[:2, :, 3:-3].max() < 1e-3


@pytest.mark.parametrize(("seconds", "rows"), [(1.0, 1), (6.0, 2), (7.0, 3)])
def test_birdnet_gets_three_seconds_at_48_khz(seconds: float, rows: int) -> None:
    wave = np.sin(np.arange(int(seconds * 32_000), dtype=np.float32) / 10)
    cut = for_birdnet(wave)
    assert cut.shape == (rows, 144_000)
    assert np.abs(cut[0, 10_000:20_000]).max() == pytest.approx(1.0, abs=0.01)
    assert not cut.ravel()[int(seconds * 48_000) :].any()


def test_the_bare_loop_hears_with_a_model(tmp_path: Path) -> None:
    """In a child: every step has taken time."""
    node = onnx.helper.make_node("ReduceMean", ["input"], ["output"], axes=[1], keepdims=0)
    ends = [
        onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["n", *shape])
        for name, shape in (("input", LOG_MEL.shape), ("output", LOG_MEL.shape[1:]))
    ]
    graph = onnx.helper.make_graph([node], "mean", ends[:1], ends[1:])
    onnx.save(onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8), tmp_path / "mean.onnx")
    speed = bare_speed(Way(tmp_path / "mean.onnx"), Arrangement(1, 1, 2), [forest(10.0, 0)] * 2)
    assert speed.sound_per_s > 0
    assert all(spent > 0 for spent in speed.cpu_ms().values())
    assert speed.windows_per_s == pytest.approx(speed.sound_per_s / 5.0)


def test_a_release_that_the_bare_loop_cannot_run_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With its members and their runtimes."""
    members = [SimpleNamespace(name="own", runtime="onnx"), SimpleNamespace(name="birdnet", runtime="litert")]
    monkeypatch.setattr("soundscape.release.named_release", lambda *_: SimpleNamespace(release=SimpleNamespace(members=members)))
    with pytest.raises(Invalid, match=r"one ONNX member; two has own \(onnx\), birdnet \(litert\)\.$"):
        way_of(Settings(data_dir=tmp_path), "two")


def test_shares_of_all_cores() -> None:
    """A second of one core in two seconds; what is small is summed up, and the rest is what nobody here used."""
    cores = len(os.sched_getaffinity(0))
    found = cpu_shares({"kafka": 1.0, "redis": 0.0}, {"kafka": 2.0, "redis": 0.001}, 2.0)
    assert found == {"kafka": round(0.5 / cores, 3), "others": 0.0, "the rest": pytest.approx(1 - 0.5 / cores, abs=2e-3)}


def test_cpu_seconds_are_those_of_the_process() -> None:
    """One that is gone is left out."""
    found = cpu_seconds({"me": os.getpid(), "gone": 2**22})
    assert found["me"] > 0
    assert found.keys() == {"me", "me's children"}
