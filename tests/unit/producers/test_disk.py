"""A full disk: the watcher's lane waits and says why, and the simulator says one sentence."""

from __future__ import annotations

import shutil
from datetime import datetime
from pathlib import Path
from types import SimpleNamespace

import pytest

from producers import lane as module
from producers.disk import lack_of_room
from producers.lane import Lane
from producers.simulate import Progress, _play
from producers.sinks import Folder
from producers.takes import Plan, forest_takes
from producers.watcher import COLOMBIA
from soundscape.errors import Unavailable
from soundscape.settings import Settings


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(data_dir=tmp_path / "not" / "yet", min_free_gb=2.0)


def _free(monkeypatch: pytest.MonkeyPatch, free: float) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: SimpleNamespace(free=free))


def test_room_is_what_the_settings_ask(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    _free(monkeypatch, 2e9)
    assert lack_of_room(settings) == ""
    _free(monkeypatch, 1.9e9)
    assert "1.9 GB" in lack_of_room(settings)


def test_the_lane_waits_while_the_disk_is_full(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "new_admin", lambda settings: None)
    monkeypatch.setattr(module, "backlog", lambda *_: 0)
    lane = Lane(settings)
    _free(monkeypatch, 1e9)
    assert not lane.has_room() and "1.0 GB" in lane.why
    _free(monkeypatch, 3e9)
    assert lane.has_room() and lane.why == ""


def test_the_simulator_stops_with_a_sentence(settings: Settings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(module, "new_admin", lambda settings: SimpleNamespace(close=lambda: None))
    monkeypatch.setattr("producers.simulate.made", lambda takes: iter([[SimpleNamespace(due_s=0.0, tour=False)]]))
    _free(monkeypatch, 1e9)
    takes = forest_takes(Plan(datetime(2026, 6, 1, 5, 0, tzinfo=COLOMBIA), 1, 1, 0, 0, 1, None))
    sink = Folder(tmp_path, "s")
    with pytest.raises(Unavailable, match="GB free"):
        _play(takes, 60.0, sink, Progress(takes), settings)
    assert not sink.sent
