"""A sweep ranks its plans, and each is a run under the sweep's."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from soundscape.settings import get_settings
from trainer.testing import write_folder

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]


def test_plans_are_ranked_and_tracked_under_one_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import mlflow

    from trainer.commands import train
    from trainer.training.sweep import sweep

    monkeypatch.setenv("SOUNDSCAPE_DATA_DIR", str(tmp_path / "var"))
    monkeypatch.setenv("SOUNDSCAPE_PORT_BASE", "64000")
    get_settings.cache_clear()
    data = write_folder(tmp_path / "data", clips=8, seconds=2.0, minutes=0)
    found = CliRunner().invoke(sweep, ["--data", str(data), "--minutes", "0.1", "--trials", "3", "--to-the-end"], catch_exceptions=False)
    get_settings.cache_clear()
    assert found.exit_code == 0, found.output
    words = found.output.splitlines()[-1].split()
    assert words[:2] == ["soundscape", "train"]
    train.make_context("train", words[2:])  # it takes each of them

    runs = {run.info.run_id: run for run in mlflow.search_runs(search_all_experiments=True, output_format="list")}
    children = [run for run in runs.values() if "mlflow.parentRunId" in run.data.tags]
    assert len(children) == 3
    parent = runs[{run.data.tags["mlflow.parentRunId"] for run in children}.pop()]
    assert parent.data.metrics["best.validation_map"] == max(run.data.metrics["validation_map"] for run in children)
    assert len({tuple(run.data.params[name] for name in ("rate", "smoothing", "recipe")) for run in children}) > 1
