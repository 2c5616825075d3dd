"""A training run by Ray Train on one worker: checkpoints by epoch, progress through a file, nothing left behind."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from soundscape.errors import Broken
from soundscape.settings import Settings
from trainer.training.cluster import Request, address_of, cluster, named, require
from trainer.training.plan import Plan

STATE = "state.pt"
POLL_S = 0.5
DEATHS = 3
"""Workers of one run that may die, each at the cost of the epoch that it was in."""


def fit(
    folder: Path,
    run: str,
    plan: Plan,
    settings: Settings,
    say: Callable[[str], None],
    on_epoch: Callable[[dict[str, Any]], None],
    weights: Path | None = None,
) -> Path:
    """Train on the prepared data in `folder`; the checkpoint folder that the run ended with, holding STATE.

    A run of the same name that was killed goes on from its last checkpoint, and so does one whose worker dies; both are said. `on_epoch` is
    called in this thread's stead, from a thread that follows the run's progress file, with each epoch's metrics. Raises Broken if the
    worker fails, Unavailable if Ray does not start, Invalid if the cluster cannot give what the worker asks for.
    """
    models = folder / "models"
    progress = models / run / "progress.jsonl"
    progress.parent.mkdir(parents=True, exist_ok=True)
    address, request = address_of(settings), Request.of(settings)
    with cluster(address) as ray:
        from ray.train import CheckpointConfig, FailureConfig, RunConfig, ScalingConfig
        from ray.train.torch import TorchTrainer

        class Trainer(TorchTrainer):  # type: ignore[misc]
            def _register_sigint_handler(self, controller: Any) -> None:
                """Ctrl-C stays ours: by Ray's handler the command would end with 1 and no word."""

        require(ray, request, named(address))
        follower = _Follower(progress, on_epoch, say)
        follower.start()
        try:
            result = Trainer(
                _work,
                train_loop_config={
                    "folder": str(folder),
                    "plan": plan.plain(),
                    "progress": str(progress),
                    "device": "cuda" if request.gpus else "cpu",
                    "weights": str(weights) if weights else None,
                },
                scaling_config=ScalingConfig(num_workers=1, use_gpu=request.gpus > 0, resources_per_worker=request.resources()),
                run_config=RunConfig(
                    name=run,
                    storage_path=str(models),
                    checkpoint_config=CheckpointConfig(num_to_keep=2),
                    failure_config=FailureConfig(max_failures=DEATHS),
                ),
            ).fit()
        except (ray.exceptions.RayError, ray.train.TrainingFailedError) as error:
            raise Broken(f"The training run {run} failed: {str(error).strip().splitlines()[-1]}") from error
        finally:
            follower.stop()
    if result.error or result.checkpoint is None:
        raise Broken(f"The training run {run} ended without a checkpoint: {result.error}")
    return Path(result.checkpoint.path)


def _work(config: dict[str, Any]) -> None:
    """What the worker does."""
    import tempfile

    import torch
    from ray import train

    from trainer.training.learn import Learner

    plan = Plan.of(config["plan"])
    cores = len(os.sched_getaffinity(0))
    torch.set_num_threads(cores if plan.taught_by else max(1, cores - 1))  # one core composes, unless a teacher's windows lie ready
    weights = Path(config["weights"]) if config["weights"] else None
    learner = Learner(Path(config["folder"]), plan, weights=weights, device=config["device"])
    own, states = Path(config["progress"]).with_name(STATE), []
    if own.is_file():
        states.append(torch.load(own, map_location="cpu", weights_only=True))
    if (checkpoint := train.get_checkpoint()) is not None:
        with checkpoint.as_directory() as there:
            states.append(torch.load(Path(there) / STATE, map_location="cpu", weights_only=True))
    fits = not states or learner.restore(max(states, key=lambda state: state["progress"]))
    progress = Path(config["progress"])
    _tell(progress, {"epoch": learner.epoch, "began": True, "fits": fits})
    first = True
    while first or not learner.done:
        if not learner.done:
            metrics = learner.run_epoch()
            part = own.with_suffix(".part")  # Ray keeps a report only when its controller comes to it: a kill would cost more
            torch.save(learner.state(), part)
            part.replace(own)
            _tell(progress, metrics)
        else:
            metrics = {"epoch": learner.epoch}
        with tempfile.TemporaryDirectory() as here:
            torch.save(learner.state(), Path(here) / STATE)
            train.report(metrics, checkpoint=train.Checkpoint.from_directory(here))
        first = False
    learner.close()


def _tell(progress: Path, line: dict[str, Any]) -> None:
    with progress.open("a", encoding="utf-8") as file:
        file.write(json.dumps(line) + "\n")


class _Follower(threading.Thread):
    """Hands each new line of the progress file on: an epoch to `on_epoch`, a worker's beginning, if it is no first one, to `say`."""

    def __init__(self, path: Path, on_epoch: Callable[[dict[str, Any]], None], say: Callable[[str], None]) -> None:
        super().__init__(daemon=True)
        self._path, self._on_epoch, self._say, self._ended, self._workers = path, on_epoch, say, threading.Event(), 0
        self._position = path.stat().st_size if path.exists() else 0

    def run(self) -> None:
        """Follow until told to stop, and once more then."""
        while not self._ended.wait(POLL_S):
            self._read()
        self._read()

    def stop(self) -> None:
        """Read what is left and end."""
        self._ended.set()
        self.join(timeout=10)

    def _read(self) -> None:
        if not self._path.exists():
            return
        with self._path.open(encoding="utf-8") as file:
            file.seek(self._position)
            text = file.read()
        whole = text.rpartition("\n")[0]
        self._position += len(whole.encode()) + bool(whole)
        for line in whole.splitlines():
            told = json.loads(line)
            if "began" in told:
                self._began(told["epoch"], told["fits"])
            else:
                self._on_epoch(told)

    def _began(self, epoch: int, fits: bool) -> None:
        self._workers += 1
        if not fits:
            self._say("The checkpoint that lies there is of other data, another plan or another network; the training begins anew.")
        elif self._workers > 1:
            self._say(f"The worker died; another one goes on after epoch {epoch}.")
        elif epoch:
            self._say(f"An earlier run stopped; the training goes on after epoch {epoch}.")
