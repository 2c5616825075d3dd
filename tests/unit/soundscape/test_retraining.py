"""Requests for a retraining: one a site, kept until it is done."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

from soundscape.retraining import done, last_at, queue, queued
from soundscape.settings import Settings


def test_one_request_a_site_until_it_is_done(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path)
    assert queued(settings) == {}
    assert queue(settings, "a", "300 new labels") and queue(settings, "b", "gate", release="r")
    assert not queue(settings, "a", "drift"), "one waits already"
    (settings.state / "retraining" / "c.json").write_text("{")
    assert queued(settings) == {"a": "300 new labels", "b": "gate", "c": "unknown"}
    done(settings, "a")
    done(settings, "a")
    assert "a" not in queued(settings) and queue(settings, "a", "drift")


def test_when_a_site_was_last_retrained(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path)
    assert last_at(settings, "a") is None
    folder = settings.root / "retrainings"
    folder.mkdir(parents=True)
    before = datetime.now(UTC).replace(microsecond=0)
    (folder / "one.json").write_text(json.dumps({"site": "a"}))
    (folder / "cut.json").write_text("{")
    found = last_at(settings, "a")
    assert found is not None and found >= before
    assert last_at(settings, "b") is None
