"""A training process that is killed leaves nothing running, and its next run loses at most an epoch."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from trainer.testing import write_folder
from trainer.training.learn import EPOCHS

DEADLINE_S = 300.0


def _epochs(home: Path) -> list[int]:
    found = list(home.glob("var/datasets/*/models/*/progress.jsonl"))
    return [json.loads(line)["epoch"] for line in found[0].read_text(encoding="utf-8").splitlines()] if found else []


def _wait(until: object, what: str) -> None:
    end = time.monotonic() + DEADLINE_S
    while not until():  # type: ignore[operator]
        assert time.monotonic() < end, what
        time.sleep(0.2)


def _training(home: Path) -> tuple[list[str], dict[str, str]]:
    """The command of half a minute's training, and its environment."""
    data = write_folder(home / "data", clips=8, seconds=2.0, minutes=0)
    wanted = ["train", "--data", str(data), "--model", "small", "--minutes", "0.5"]
    environment = {**os.environ, "SOUNDSCAPE_DATA_DIR": str(home / "var"), "SOUNDSCAPE_PORT_BASE": "64000"}
    return [sys.executable, "-c", "from soundscape.cli import main; main()", *wanted], environment


@pytest.mark.slow
def test_training_goes_on_after_a_kill(tmp_path: Path) -> None:
    command, environment = _training(tmp_path)
    with subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as first:
        _wait(lambda: len(_epochs(tmp_path)) >= 4 or first.poll() is not None, "no four epochs")
        assert first.poll() is None, "it ended before it was killed"
        family = psutil.Process(first.pid).children(recursive=True)
        first.send_signal(signal.SIGKILL)
    _, alive = psutil.wait_procs(family, timeout=DEADLINE_S)  # its agents look for it every few seconds
    assert not alive, "the killed run left processes behind"
    before = _epochs(tmp_path)

    second = subprocess.run(command, env=environment, capture_output=True, text=True, check=True, timeout=DEADLINE_S)
    assert f"the training goes on after epoch {before[-1]}." in second.stdout
    after = _epochs(tmp_path)[len(before) :]
    assert after[0] in (before[-1], before[-1] + 1), "more than one epoch was lost"
    assert after[-1] == EPOCHS
    release = tmp_path / "var" / "releases" / second.stdout.splitlines()[-1] / "release.json"
    assert json.loads(release.read_text(encoding="utf-8"))["metrics"]["training"]["epochs"] == EPOCHS


@pytest.mark.slow
def test_a_worker_that_is_killed_costs_at_most_its_epoch_and_the_run_says_so(tmp_path: Path) -> None:
    command, environment = _training(tmp_path)
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as run:
        _wait(lambda: len(_epochs(tmp_path)) >= 4 or run.poll() is not None, "no three epochs")
        workers = [one for one in psutil.Process(run.pid).children(recursive=True) if "RayTrainWorker" in " ".join(one.cmdline())]
        assert len(workers) == 1, "the worker is known by its title"
        workers[0].send_signal(signal.SIGKILL)
        before = _epochs(tmp_path)
        said, _ = run.communicate(timeout=DEADLINE_S)
    assert run.returncode == 0, said
    went_on = [line for line in said.splitlines() if line.startswith("The worker died")]
    assert len(went_on) == 1
    assert int(went_on[0].rstrip(".").split()[-1]) >= before[-1], "more than the epoch was lost"
    assert _epochs(tmp_path)[-1] == EPOCHS


def _semaphores(processes: list[psutil.Process]) -> set[Path]:
    """Those that the processes have open in /dev/shm."""
    return {Path(one.path) for process in processes for one in process.memory_maps() if one.path.startswith("/dev/shm/sem.")}


@pytest.mark.slow
@pytest.mark.parametrize("sent", [signal.SIGTERM, signal.SIGINT])
def test_a_training_that_is_stopped_says_how_to_go_on_and_leaves_nothing(tmp_path: Path, sent: signal.Signals) -> None:
    command, environment = _training(tmp_path)
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as run:
        _wait(lambda: len(_epochs(tmp_path)) >= 3 or run.poll() is not None, "no two epochs")
        family = psutil.Process(run.pid).children(recursive=True)
        semaphores = _semaphores(family)
        assert semaphores, "the processes that compose have some"
        run.send_signal(sent)
        said, _ = run.communicate(timeout=DEADLINE_S)
    assert run.returncode == 130, said
    assert said.splitlines()[-1].endswith("run the same command again to go on.")
    assert "Stack trace" not in said and "***" not in said and "Traceback" not in said, said
    _, alive = psutil.wait_procs(family, timeout=DEADLINE_S)
    assert not alive, "the stopped run left processes behind"
    _wait(lambda: not any(one.exists() for one in semaphores), "semaphores were left in /dev/shm")
