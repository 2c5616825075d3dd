"""A command as a Ray job: its words and its exit code come back, and when it is stopped nothing is left running."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from trainer.testing import write_folder

DEADLINE_S = 300.0
pytestmark = pytest.mark.slow


def _job(home: Path, *words: str) -> subprocess.Popen[str]:
    environment = {**os.environ, "SOUNDSCAPE_DATA_DIR": str(home / "var"), "SOUNDSCAPE_PORT_BASE": "63900", "PYTHONUNBUFFERED": "1"}
    command = [sys.executable, "-c", "from soundscape.cli import main; main()", "job", *words]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_a_job_says_what_its_command_says_and_ends_as_it_ends(tmp_path: Path) -> None:
    with _job(tmp_path, "--cpus", "0.5", "--memory", "0.5", "release", "show", "nothing") as run:
        said, aside = run.communicate(timeout=DEADLINE_S)
    assert run.returncode == 2, aside
    assert "soundscape: " in said and "nothing" in said
    assert "dashboard: http://127.0.0.1:63914/" in aside


def test_a_job_that_asks_for_more_than_there_is_is_refused(tmp_path: Path) -> None:
    with _job(tmp_path, "--cpus", "1000", "release", "list") as run:
        _, aside = run.communicate(timeout=DEADLINE_S)
    assert run.returncode == 2
    assert "1000 CPU were asked for, and no node of this machine has as much" in aside


def test_a_job_that_is_stopped_leaves_nothing_running(tmp_path: Path) -> None:
    data = write_folder(tmp_path / "data", clips=8, seconds=2.0, minutes=0)
    with _job(tmp_path, "train", "--data", str(data), "--model", "small", "--minutes", "10") as run:
        assert run.stdout is not None
        for line in run.stdout:
            if line.startswith("epoch"):
                break
        family = psutil.Process(run.pid).children(recursive=True)
        trains = [one for one in psutil.process_iter(["cmdline"]) if str(data) in (one.info["cmdline"] or [])]
        assert len(trains) == 2, "the command, and the job"
        run.send_signal(signal.SIGINT)
        said, aside = run.communicate(timeout=DEADLINE_S)
    assert run.returncode == 130, aside
    assert "Stopping the job" in aside and "Traceback" not in said + aside
    end = time.monotonic() + DEADLINE_S
    _, alive = psutil.wait_procs([*family, *trains], timeout=end - time.monotonic())
    assert not alive
