"""A site that was never heard of is refused in one sentence; one that is only quiet is not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import click
import pytest
from click.testing import CliRunner

from consumers import label_files, quality, tours_command
from consumers.labeler.shelf import Shelf
from consumers.quality_rules import Quality
from soundscape import known_sites
from soundscape.errors import Invalid
from soundscape.keys import create_key
from soundscape.settings import Settings
from trainer.replay import command as replay
from trainer.replay import dataset as replay_dataset

COMMANDS: dict[str, tuple[click.Command, list[str]]] = {
    "tours list": (tours_command.list_command, ["--json"]),
    "quality": (quality.quality, ["--json"]),
    "labels export": (label_files.export_command, ["--format", "csv", "--out", "labels.csv"]),
    "replay --out": (replay.replay, ["--out", "new", "--json"]),
    "replay --release": (replay.replay, ["--release", "r", "--json"]),
}


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """A stack with a release for `valley`, a key for `ridge`, and nothing on its log."""
    found, manifest = Settings(data_dir=tmp_path / "var"), {"answered": 0, "left_out": {}}
    create_key(found, "ana", "labeler", "ridge")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(known_sites, "read_states", lambda settings: {"valley": SimpleNamespace()})
    for module in (tours_command, quality, label_files, replay):
        monkeypatch.setattr(module, "get_settings", lambda: found)
    monkeypatch.setattr(tours_command, "_summaries", lambda site: [])
    monkeypatch.setattr(quality, "measure", lambda settings, site: (Quality(), {}))
    monkeypatch.setattr(label_files, "read_shelf", lambda settings: Shelf())
    monkeypatch.setattr("trainer.replay.answers.replay_release", lambda *_: manifest)
    monkeypatch.setattr(replay_dataset, "make_dataset", lambda *_: manifest)
    return found


@pytest.mark.parametrize("name", COMMANDS)
def test_a_slip_of_the_keyboard_is_said(name: str, settings: Settings) -> None:
    command, options = COMMANDS[name]
    run: Callable[..., Any] = CliRunner().invoke
    for site in ("valley", "ridge", settings.site):
        assert run(command, [*options, "--site", site]).exit_code == 0, site
    refused = run(command, [*options, "--site", "valey"]).exception
    assert isinstance(refused, Invalid) and "never been heard of" in str(refused)
    assert all(site in str(refused) for site in ("valey", "valley", "ridge", settings.site))
