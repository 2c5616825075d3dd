"""Tests on models that set-up fetches are left out, aloud, where a file they need is not there."""

from __future__ import annotations

from pathlib import Path

import pytest

from trainer.members.birdnet import FILES

TOOLS = Path(__file__).resolve().parents[2] / ".tools"
NEEDED = [*(TOOLS / "birdnet" / name for name in FILES), TOOLS / "samples" / "birds_10s.wav"]
LEFT_OUT = pytest.StashKey[int]()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Deselect what is marked `weights` if a file is missing."""
    if all(path.is_file() for path in NEEDED):
        return
    left_out = [item for item in items if item.get_closest_marker("weights")]
    items[:] = [item for item in items if not item.get_closest_marker("weights")]
    config.hook.pytest_deselected(items=left_out)
    config.stash[LEFT_OUT] = len(left_out)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Say what was left out, and the cure."""
    if count := config.stash.get(LEFT_OUT, 0):
        terminalreporter.write_line(
            f"{count} tests on fetched models were left out; `make setup` fetches what they need.", yellow=True
        )
