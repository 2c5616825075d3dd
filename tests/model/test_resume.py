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

from trainer.learn import EPOCHS
from trainer.testing import write_folder

DEADLINE_S = 300.0


def _epochs(home: Path) -> list[int]:
    found = list(home.glob("var/datasets/*/models/*/progress.jsonl"))
    return [json.loads(line)["epoch"] for line in found[0].read_text(encoding="utf-8").splitlines()] if found else []


def _wait(until: object, what: str) -> None:
    end = time.monotonic() + DEADLINE_S
    while not until():  # type: ignore[operator]
        assert time.monotonic() < end, what
        time.sleep(0.2)


@pytest.mark.slow
def test_training_goes_on_after_a_kill(tmp_path: Path) -> None:
    data = write_folder(tmp_path / "data", clips=8, seconds=2.0, minutes=0)
    wanted = ["train", "--data", str(data), "--model", "small", "--minutes", "0.5"]
    command = [sys.executable, "-c", "from soundscape.cli import main; main()", *wanted]
    environment = {**os.environ, "SOUNDSCAPE_DATA_DIR": str(tmp_path / "var"), "SOUNDSCAPE_PORT_BASE": "64000"}
    with subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as first:
        _wait(lambda: len(_epochs(tmp_path)) >= 4 or first.poll() is not None, "no four epochs")
        assert first.poll() is None, "it ended before it was killed"
        family = psutil.Process(first.pid).children(recursive=True)
        first.send_signal(signal.SIGKILL)
    _, alive = psutil.wait_procs(family, timeout=DEADLINE_S)  # its agents look for it every few seconds
    assert not alive, "the killed run left processes behind"
    before = _epochs(tmp_path)

    second = subprocess.run(command, env=environment, capture_output=True, text=True, check=True, timeout=DEADLINE_S)
    after = _epochs(tmp_path)[len(before) :]
    assert after[0] in (before[-1], before[-1] + 1), "more than one epoch was lost"
    assert after[-1] == EPOCHS
    release = tmp_path / "var" / "releases" / second.stdout.splitlines()[-1] / "release.json"
    assert json.loads(release.read_text(encoding="utf-8"))["metrics"]["training"]["epochs"] == EPOCHS
