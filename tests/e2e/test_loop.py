"""The loop once, on a stack of its own: people, samples, labels, retraining, gate, trial, promotion, alarm; every step holds."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from soundscape.testing import COMMAND, Stack, free_base


@pytest.mark.slow
def test_the_story_holds_from_an_empty_folder(tmp_path: Path) -> None:
    """About seven minutes; it starts and stops its stack itself."""
    stack = Stack(tmp_path, free_base())
    done = subprocess.run([COMMAND, "story", "--json"], env=stack.environment, capture_output=True, text=True, timeout=1800, check=False)
    said = json.loads(done.stdout.splitlines()[-1])
    assert [step["name"] for step in said["steps"] if not step["ok"]] == [], done.stderr[-3000:]
    assert done.returncode == 0 and len(said["releases"]) == 2
    assert (said["audit"]["lost"], said["audit"]["twice"]) == (0, 0)
