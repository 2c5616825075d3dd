"""MLflow: what a run was made of and how it went. Tracking is worth nothing without the training: what fails here is said, once."""

from __future__ import annotations

import logging
import os
import platform
import subprocess
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import distributions
from pathlib import Path
from typing import TYPE_CHECKING, Any

from soundscape.errors import Unavailable
from soundscape.settings import Settings

if TYPE_CHECKING:
    from soundscape.release import LoadedRelease

EXPERIMENT = "soundscape"
RELEASE = "release"
"""Artifact folder of a run that holds the release it made, whole: what `soundscape release fetch` brings back."""


def reachable(uri: str) -> bool:
    """Whether an MLflow server answers there."""
    import httpx

    try:
        return httpx.get(f"{uri.rstrip('/')}/health", timeout=2.0).status_code == 200
    except httpx.HTTPError:
        return False


def git_commit() -> str | None:
    """The commit of the code that runs, with `+changes` if files differ from it; None outside a checkout."""
    here = Path(__file__).parent
    try:
        commit = subprocess.run(["git", "rev-parse", "HEAD"], cwd=here, capture_output=True, text=True, check=True, timeout=10)
        changes = subprocess.run(["git", "status", "--porcelain", "-uno"], cwd=here, capture_output=True, text=True, check=True, timeout=10)
    except (OSError, subprocess.SubprocessError):
        return None
    return commit.stdout.strip() + ("+changes" if changes.stdout.strip() else "")


def environment() -> str:
    """What this process runs on: Python, machine, and every installed package with its version."""
    cores = len(os.sched_getaffinity(0))
    packages = sorted({f"{one.metadata['Name']}=={one.version}" for one in distributions()}, key=str.lower)
    return "\n".join([f"Python {platform.python_version()}", platform.platform(), f"{cores} cores", *packages, ""])


class Run:
    """An open MLflow run, or none: every call does its work or, from the first failure on, nothing."""

    def __init__(self, client: Any, spare: str, say: Callable[[str], None]) -> None:
        self._mlflow, self._spare, self._say = client, spare, say
        self._opened: str | None = None
        """The run's id, for other threads: MLflow keeps which run is active by thread."""

    @property
    def run_id(self) -> str | None:
        """Of the run, if there is one."""
        active = self._mlflow.active_run() if self._mlflow else None
        return None if active is None else str(active.info.run_id)

    def params(self, values: Mapping[str, Any]) -> None:
        """Log parameters."""
        self._do(lambda mlflow: mlflow.log_params({key: str(value)[:500] for key, value in values.items()}))

    def tags(self, values: Mapping[str, str | None]) -> None:
        """Set tags; those without a value are left out."""
        self._do(lambda mlflow: mlflow.set_tags({key: value for key, value in values.items() if value}))

    def metrics(self, values: Mapping[str, float], step: int | None = None) -> None:
        """Log metrics."""
        self._do(lambda mlflow: mlflow.log_metrics({key: float(value) for key, value in values.items()}, step=step, run_id=self._opened))

    def artifact(self, path: Path, folder: str | None = None) -> None:
        """Log a file."""
        self._do(lambda mlflow: mlflow.log_artifact(str(path), folder))

    def text(self, text: str, name: str) -> None:
        """Log a text as a file of that name."""
        self._do(lambda mlflow: mlflow.log_text(text, name))

    def register(self, made: LoadedRelease, name: str) -> str | None:
        """Register a release as a new version, with all its files; its number, or None if that failed. Aliases are the deployer's to give.

        One of a single ONNX model is also a model that MLflow itself can load.
        """

        def work(mlflow: Any) -> str:
            member, kept = made.release.members[0], RELEASE
            mlflow.log_artifacts(str(made.folder), RELEASE)
            if len(made.release.members) == 1 and member.runtime == "onnx":
                import onnx

                # `save_as_external_data` would empty the model object
                mlflow.onnx.log_model(onnx.load(str(made.folder / member.file)), name="model", save_as_external_data=False)
                kept = "model"
            client = mlflow.MlflowClient()
            if not client.search_registered_models(f"name='{name}'"):
                client.create_registered_model(name)
            run_id = mlflow.active_run().info.run_id
            tags = {"release": made.release.name, "digest": made.digest, "licence": ", ".join(made.release.licences)}
            return str(client.create_model_version(name, f"runs:/{run_id}/{kept}", run_id, tags=tags).version)

        found = self._do(work)
        return None if found is None else str(found)

    def _do(self, work: Callable[[Any], Any]) -> Any:
        if self._mlflow is None:
            return None
        try:
            return work(self._mlflow)
        except self._mlflow.exceptions.MlflowException as error:
            self._say(f"MLflow does not take it ({str(error).splitlines()[0][:150]}); the run goes on without it.")
            self._mlflow.set_tracking_uri(self._spare)  # what MLflow still does by itself at the end shall not wait for the server
            self._mlflow = None
            return None


def quiet_mlflow() -> None:
    """Before MLflow is imported: it gives up soon, calls nobody, and logs what has failed alone."""
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "30")
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    os.environ.setdefault("GIT_PYTHON_REFRESH", "quiet")
    for noisy in ("mlflow", "alembic", "urllib3.connectionpool"):
        logging.getLogger(noisy).setLevel(logging.ERROR)


@contextmanager
def tracked(settings: Settings, folder: Path, name: str, say: Callable[[str], None], resume: Path | None = None) -> Iterator[Run]:
    """An MLflow run on the stack's server, or on SQLite in `folder` where no server answers (said aloud).

    `resume` is a file that holds the run's id, so that training which goes on after a kill goes on in the same run.
    """
    quiet_mlflow()
    uri, spare = settings.tracking_uri, f"sqlite:///{folder / 'logs' / 'mlflow.db'}"
    if uri.startswith("http") and not reachable(uri):
        (folder / "logs").mkdir(parents=True, exist_ok=True)
        say(f"MLflow does not answer at {uri}; this run is kept in {folder / 'logs' / 'mlflow.db'}.")
        uri = spare
    import mlflow

    mlflow.set_tracking_uri(uri)
    run = Run(mlflow, spare, say)
    try:
        if uri.startswith("sqlite") and mlflow.get_experiment_by_name(EXPERIMENT) is None:
            mlflow.create_experiment(EXPERIMENT, artifact_location=(folder / "logs" / "mlflow").as_uri())
        mlflow.set_experiment(EXPERIMENT)
        before = resume.read_text(encoding="utf-8").strip() if resume and resume.is_file() else None
        _start(mlflow, name, before)
        run._opened = run.run_id
    except mlflow.exceptions.MlflowException as error:
        raise Unavailable(f"MLflow at {uri} does not open a run: {str(error).splitlines()[0][:200]}") from error
    if resume and run.run_id:
        resume.parent.mkdir(parents=True, exist_ok=True)
        resume.write_text(run.run_id, encoding="utf-8")
    run.text(environment(), "environment.txt")
    status = "FAILED"
    try:
        yield run
        status = "FINISHED"
    finally:
        run._do(lambda opened: opened.end_run(status))


def _start(mlflow: Any, name: str, before: str | None) -> None:
    nested = mlflow.active_run() is not None  # a member of an ensemble: its run lies under the ensemble's
    if before:
        try:
            mlflow.start_run(run_id=before, log_system_metrics=True, nested=nested)
        except mlflow.exceptions.MlflowException:
            pass  # another server, or an emptied one: a run of its own
        else:
            return
    mlflow.start_run(run_name=name, log_system_metrics=True, nested=nested)
