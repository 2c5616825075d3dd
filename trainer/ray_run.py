"""A training run as a Ray Train job on one local worker: checkpoints by epoch, progress through a file, nothing left behind."""

from __future__ import annotations

import json
import os
import secrets
import signal
import threading
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from soundscape.errors import Broken, Unavailable
from soundscape.settings import HOST
from trainer.learn import Plan
from trainer.mixing import Recipe

STATE = "state.pt"
POLL_S = 0.5
TRIES = 4
"""To start Ray."""


def fit(
    folder: Path, run: str, plan: Plan, address: str | None, on_epoch: Callable[[dict[str, Any]], None], weights: Path | None = None
) -> Path:
    """Train on the prepared data in `folder`; the checkpoint folder that the run ended with, holding STATE.

    A run of the same name that was killed goes on from its last checkpoint. `on_epoch` is called in this thread's stead, from
    a thread that follows the run's progress file, with each epoch's metrics. Raises Broken if the worker fails,
    Unavailable if Ray does not start.
    """
    os.environ.update(RAY_USAGE_STATS_ENABLED="0", RAY_TRAIN_V2_ENABLED="1", RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO="0")
    os.environ.setdefault("RAY_TRAIN_ENABLE_STATE_TRACKING", "0")
    os.environ.setdefault("RAY_worker_niceness", "0")  # Ray's default of 15 starves on a machine that does anything else
    os.environ.setdefault("RAY_AUTH_MODE", "token")  # explicit: Ray changes its mind when it finds a token file
    os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
    import ray
    from ray.train import CheckpointConfig, FailureConfig, RunConfig, ScalingConfig
    from ray.train.torch import TorchTrainer

    models = folder / "models"
    progress = models / run / "progress.jsonl"
    progress.parent.mkdir(parents=True, exist_ok=True)
    cores = len(os.sched_getaffinity(0))
    _start(ray, address, cores)
    follower = _Follower(progress, on_epoch)
    follower.start()
    interrupt = signal.getsignal(signal.SIGINT)
    try:
        result = TorchTrainer(
            _work,
            train_loop_config={
                "folder": str(folder),
                "plan": asdict(plan),
                "progress": str(progress),
                "threads": max(1, cores - 1),
                "weights": str(weights) if weights else None,
            },
            scaling_config=ScalingConfig(num_workers=1, use_gpu=False, resources_per_worker={"CPU": 1}),
            run_config=RunConfig(
                name=run,
                storage_path=str(models),
                checkpoint_config=CheckpointConfig(num_to_keep=2),
                failure_config=FailureConfig(max_failures=1),
            ),
        ).fit()
    except ray.exceptions.RayError as error:
        raise Broken(f"The training run {run} failed: {error}") from error
    except ray.train.TrainingFailedError as error:
        raise Broken(f"The training run {run} failed: {error}") from error
    finally:
        follower.stop()
        ray.shutdown()
        if threading.current_thread() is threading.main_thread():  # Ray leaves its own behind, which asks a cluster that is gone
            signal.signal(signal.SIGINT, interrupt)
    if result.error or result.checkpoint is None:
        raise Broken(f"The training run {run} ended without a checkpoint: {result.error}")
    return Path(result.checkpoint.path)


def _start(ray: Any, address: str | None, cores: int) -> None:
    """Join a cluster, or start a local one on loopback; on a busy machine Ray's own 30 s for that can be too few."""
    for left in reversed(range(TRIES)):
        try:
            if address:
                ray.init(address=address, log_to_driver=False)
            else:
                ray.init(
                    num_cpus=cores, include_dashboard=False, log_to_driver=False, configure_logging=False,
                    object_store_memory=256 * 1024**2, _node_ip_address=HOST,
                )  # fmt: skip
        except Exception as error:  # Ray raises plain Exception when its node is late
            ray.shutdown()
            if not left:
                raise Unavailable(f"Ray does not start: {str(error).splitlines()[0]}") from error
        else:
            return


def _work(config: dict[str, Any]) -> None:
    """What the worker does."""
    import tempfile

    import torch
    from ray import train

    from trainer.learn import Learner

    torch.set_num_threads(config["threads"])
    plan = Plan(**{**config["plan"], "recipe": Recipe(**config["plan"]["recipe"])})
    learner = Learner(Path(config["folder"]), plan, weights=Path(config["weights"]) if config["weights"] else None)
    own, states = Path(config["progress"]).with_name(STATE), []
    if own.is_file():
        states.append(torch.load(own, weights_only=True))
    if (checkpoint := train.get_checkpoint()) is not None:
        with checkpoint.as_directory() as there:
            states.append(torch.load(Path(there) / STATE, weights_only=True))
    if states:
        learner.restore(max(states, key=lambda state: state["progress"]))
    first = True
    while first or not learner.done:
        if not learner.done:
            metrics = learner.run_epoch()
            part = own.with_suffix(".part")  # Ray keeps a report only when its controller comes to it: a kill would cost more
            torch.save(learner.state(), part)
            part.replace(own)
            with Path(config["progress"]).open("a", encoding="utf-8") as file:
                file.write(json.dumps(metrics) + "\n")
        else:
            metrics = {"epoch": learner.epoch}
        with tempfile.TemporaryDirectory() as here:
            torch.save(learner.state(), Path(here) / STATE)
            train.report(metrics, checkpoint=train.Checkpoint.from_directory(here))
        first = False
    learner.close()


class _Follower(threading.Thread):
    """Hands each new line of the progress file on."""

    def __init__(self, path: Path, on_epoch: Callable[[dict[str, Any]], None]) -> None:
        super().__init__(daemon=True)
        self._path, self._on_epoch, self._ended = path, on_epoch, threading.Event()
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
            self._on_epoch(json.loads(line))
