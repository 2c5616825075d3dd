"""The benches of training on their smallest sizes: that sharded training is the same training, and what is printed of it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from soundscape.settings import get_settings

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]


def test_sharded_training_is_the_same_training_on_one_worker_and_on_two(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from trainer.training.bench_fsdp import fsdp

    monkeypatch.setenv("SOUNDSCAPE_DATA_DIR", str(tmp_path))
    get_settings.cache_clear()
    found = CliRunner().invoke(fsdp, ["--workers", "1,2", "--global-batch", "4", "--steps", "2", "--json"], catch_exceptions=False)
    get_settings.cache_clear()
    assert found.exit_code == 0, found.output
    told = json.loads(found.stdout)
    assert list(told["workers"]) == ["1", "2"]
    assert told["workers"]["1"]["first_loss"] == pytest.approx(told["workers"]["2"]["first_loss"], rel=1e-4)
    assert told["workers"]["1"]["loss"] != told["workers"]["1"]["first_loss"], "the second step stands on the first"
    assert told["losses_apart"] < 0.01
    assert Path(told["plot"]).read_bytes().startswith(b"\x89PNG")


def test_the_choices_that_save_memory_are_measured_each_in_its_process() -> None:
    from trainer.training.bench_memory import CHOICES, memory

    found = CliRunner().invoke(memory, ["--model", "efficientnet_b0", "--batch", "4", "--steps", "2", "--json"], catch_exceptions=False)
    assert found.exit_code == 0, found.output
    rows = json.loads(found.stdout)["choices"]
    assert list(rows) == list(CHOICES)
    assert all(one["peak_mb"] > one["before_mb"] > 0 for one in rows.values())
