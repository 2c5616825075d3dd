"""What a cluster cannot give is said in a sentence, before Ray would wait for it for ever."""

from __future__ import annotations

import shlex
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import CliRunner

from soundscape.errors import Invalid, Reason
from soundscape.settings import HOST, Port, Settings, get_settings
from trainer.commands import train
from trainer.training.cluster import Request, address_of, require
from trainer.training.jobs import entrypoint, job, variables


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Settings]:
    monkeypatch.setenv("SOUNDSCAPE_DATA_DIR", str(tmp_path / "var"))
    monkeypatch.setenv("SOUNDSCAPE_RAY_ADDRESS", "")
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    get_settings.cache_clear()
    yield get_settings()
    get_settings.cache_clear()


def _ray(*nodes: dict[str, float]) -> Any:
    return SimpleNamespace(nodes=lambda: [{"Alive": True, "Resources": one} for one in nodes])


def test_a_request_must_fit_one_node() -> None:
    two = _ray({"CPU": 2, "memory": 8e9}, {"CPU": 4, "memory": 2e9, "GPU": 1})
    require(two, Request(4, 1, 1), "here")
    with pytest.raises(Invalid, match="4 CPU and 6 GB were asked for, and no node of here has as much"):
        require(two, Request(4, 6), "here")
    with pytest.raises(Invalid, match="A GPU was asked for, and here has none"):
        require(_ray({"CPU": 2}), Request(1, 0, 1), "here")


def test_a_taken_port_is_one_sentence(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as taken:
        taken.bind((HOST, 0))
        taken.listen()
        base = taken.getsockname()[1] - Port.RAY_DASHBOARD
        monkeypatch.setenv("SOUNDSCAPE_PORT_BASE", str(base))
        get_settings.cache_clear()
        found = CliRunner().invoke(job, ["release", "list"])
    assert isinstance(found.exception, Invalid)
    assert f"Ray needs port {base + Port.RAY_DASHBOARD}, and another process has it" in str(found.exception)


def test_a_gpu_where_there_is_none_is_one_sentence_before_any_work(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    found = CliRunner().invoke(train, ["--data", str(tmp_path), "--model", "small", "--gpu"])
    assert isinstance(found.exception, Invalid) and "A GPU was asked for, and this machine has none" in str(found.exception)
    assert not (tmp_path / "var").exists()


def test_a_choice_that_a_head_cannot_take_is_refused(settings: Settings, tmp_path: Path) -> None:
    for model in ([], ["--model", "birdnet_head"]):
        found = CliRunner().invoke(train, ["--data", str(tmp_path), *model, "--rate", "0.1"])
        assert found.exit_code == 2 and "--rate: only for a network" in found.output


def test_a_choice_of_nought_is_a_choice(settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: dict[str, Any] = {}

    def keep(*_: Any, **chosen: Any) -> None:
        asked.update(chosen)
        raise Invalid(Reason.BAD_REQUEST, "enough")

    monkeypatch.setattr("trainer.training.plan.chosen_plan", keep)
    CliRunner().invoke(train, ["--data", str(tmp_path), "--model", "small", "--smoothing", "0.0"])
    assert asked == {"smoothing": 0.0}


def test_the_cluster_is_the_settings_or_rays_own_variable(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    assert address_of(settings) is None
    monkeypatch.setenv("RAY_ADDRESS", "other:6379")
    assert address_of(settings) == "other:6379"
    assert address_of(settings.model_copy(update={"ray_address": "named:6379"})) == "named:6379"


def test_a_job_runs_where_it_was_typed_with_its_settings_and_request(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a folder").mkdir()
    monkeypatch.chdir(tmp_path / "a folder")
    monkeypatch.setattr(sys, "executable", "echo")
    said = subprocess.run(entrypoint(["train", "--data", "my data"]), shell=True, capture_output=True, text=True, check=True).stdout
    assert said.endswith("train --data my data\n")
    assert shlex.split(entrypoint(["x"]))[1] == str(tmp_path / "a folder")
    found = variables(settings, Request(2, 3, 1))
    assert found["SOUNDSCAPE_DATA_DIR"] == str(tmp_path / "var")
    assert [found[f"SOUNDSCAPE_RAY_{name}"] for name in ("CPUS", "MEMORY_GB", "GPUS")] == ["2", "3", "1"]
    assert "SOUNDSCAPE_RAY_ADDRESS" not in found, "the job's cluster is the one that runs it"
