"""When a retraining is due: by new labels since the last one, or by drift where anybody said anything new."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import pytest

from consumers import quality
from consumers.quality_rules import Drift
from soundscape.events import ClipLabelled
from soundscape.settings import Settings
from soundscape.wire import encode

AT = datetime(2026, 3, 1, tzinfo=UTC)


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The records of `labels`."""
    records: list[Any] = []
    monkeypatch.setattr(quality, "new_consumer", lambda settings: SimpleNamespace(close=lambda: None))
    monkeypatch.setattr(quality, "read_all", lambda consumer, topics: iter(records))
    return records


def labelled(log: list[Any], count: int, site: str = "s", at: datetime = AT) -> None:
    for _ in range(count):
        event = ClipLabelled(
            label_id=str(uuid4()), clip_id=uuid4(), stream="t", site=site, start_s=0.0, end_s=5.0, verdict="nothing", labels=(),
            by="ana", provenance="page", labelled_at=at,
        )  # fmt: skip
        message = encode(event)
        log.append(SimpleNamespace(topic="labels", partition=0, offset=len(log), headers=message.headers, value=message.value))


def test_enough_new_labels(tmp_path: Path, log: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    settings = Settings(data_dir=tmp_path, retrain_labels=3)
    labelled(log, 2)
    labelled(log, 5, site="elsewhere")
    assert quality.due(settings, "s", {}) is None
    labelled(log, 1)
    assert quality.due(settings, "s", {}) == "3 new labels"
    monkeypatch.setattr(quality, "last_at", lambda settings, site: AT + timedelta(hours=1))
    assert quality.due(settings, "s", {}) is None, "they were learnt from"
    labelled(log, 3, at=AT + timedelta(hours=2))
    assert quality.due(settings, "s", {}) == "3 new labels"


def test_a_drift_about_which_somebody_said_something(tmp_path: Path, log: list[Any]) -> None:
    settings = Settings(data_dir=tmp_path, retrain_labels=300)
    assert quality.due(settings, "s", {"species mix": Drift(0.9)}) is None, "there is nothing new to learn from"
    labelled(log, 29)
    assert quality.due(settings, "s", {"species mix": Drift(0.9)}) is None, "a retraining after each label would change nothing"
    labelled(log, 1)
    assert quality.due(settings, "s", {"species mix": Drift(0.2)}) is None
    assert quality.due(settings, "s", {"species mix": Drift(unknown="too few"), "scores": Drift(0.9)}) is None, "scores alone ask for none"
    assert quality.due(settings, "s", {"species mix": Drift(0.9)}) == "drift of the species mix (PSI 0.90)"
