"""What a trained version is given in the registry, and what is not the trainer's to give."""

from __future__ import annotations

from pathlib import Path
from threading import Thread
from types import SimpleNamespace
from typing import Any

import pytest

from soundscape.settings import Settings
from soundscape.testing import tone_release
from trainer.training.tracking import Run, tracked


class FakeClient:
    """As MlflowClient, as far as registering goes: anything else is an AttributeError."""

    def __init__(self) -> None:
        self.made: list[tuple[str, dict[str, str]]] = []

    def search_registered_models(self, wanted: str) -> list[Any]:
        """None yet."""
        return []

    def create_registered_model(self, name: str) -> None:
        """Made."""

    def create_model_version(self, name: str, source: str, run_id: str, tags: dict[str, str]) -> Any:
        """The next one."""
        self.made.append((name, tags))
        return SimpleNamespace(version=len(self.made))


def test_a_trained_version_has_its_tags_and_no_alias(tmp_path: Path) -> None:
    """By its digest the deployer finds it; `candidate` is given when a release is offered, not when it is trained."""
    made, client = tone_release(tmp_path, "tones"), FakeClient()
    kept: list[tuple[str, str]] = []
    mlflow = SimpleNamespace(
        log_artifacts=lambda folder, name: kept.append((folder, name)),
        onnx=SimpleNamespace(log_model=lambda *_, **__: None), MlflowClient=lambda: client,
        active_run=lambda: SimpleNamespace(info=SimpleNamespace(run_id="run")), exceptions=SimpleNamespace(MlflowException=OSError),
    )  # fmt: skip
    run, tags = Run(mlflow, "", lambda said: None), {"release": "tones", "digest": made.digest, "licence": "CC0"}
    assert [run.register(made, "forest") for _ in range(2)] == ["1", "2"]
    assert client.made == [("forest", tags)] * 2 and kept == [(str(made.folder), "release")] * 2


def test_a_server_that_goes_away_is_said_once_and_the_run_goes_on() -> None:
    asked: list[str] = []

    def fail(*_: Any, **__: Any) -> None:
        asked.append("again")
        raise OSError("connection refused")

    mlflow = SimpleNamespace(log_metrics=fail, exceptions=SimpleNamespace(MlflowException=OSError), set_tracking_uri=lambda uri: None)
    said: list[str] = []
    run = Run(mlflow, "", said.append)
    for step in range(3):
        run.metrics({"loss": 0.5}, step=step)
    assert asked == ["again"]
    assert said == ["MLflow does not take it (connection refused); the run goes on without it."]


@pytest.mark.filterwarnings("ignore")  # MLflow warns of its own code, and of its database's
def test_what_another_thread_logs_is_in_the_same_run(settings: Settings, tmp_path: Path) -> None:
    """MLflow keeps the active run by thread, and epochs are followed by one of their own."""
    with tracked(settings, tmp_path, "train", lambda _: None) as run:
        thread = Thread(target=lambda: run.metrics({"loss": 0.5}, step=3))
        thread.start()
        thread.join()
        opened = run.run_id
    import mlflow

    client = mlflow.MlflowClient(f"sqlite:///{tmp_path / 'logs' / 'mlflow.db'}")
    runs = client.search_runs([one.experiment_id for one in client.search_experiments()])
    assert [one.info.run_id for one in runs] == [opened] and runs[0].data.metrics["loss"] == 0.5
