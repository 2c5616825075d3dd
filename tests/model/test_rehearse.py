"""A rehearsal on tones, from the folder to the verdict: both trainings, no stack, and the second call finds all of it done."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from soundscape.release import load_release
from soundscape.settings import Settings, get_settings
from trainer.data.catalog import read_catalog
from trainer.evaluation import rivals
from trainer.evaluation.trained import trained_on
from trainer.testing import write_folder

pytestmark = pytest.mark.filterwarnings("ignore")
"""MLflow, Ray and the exporter of torch deprecate parts of themselves and of each other; those warnings are not ours."""


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Settings]:
    monkeypatch.setenv("SOUNDSCAPE_DATA_DIR", str(tmp_path / "var"))
    monkeypatch.setenv("SOUNDSCAPE_PORT_BASE", "64000")
    get_settings.cache_clear()
    yield get_settings()
    get_settings.cache_clear()


@pytest.mark.slow
def test_the_older_are_learnt_first_and_nobody_learns_the_later(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from trainer.retraining.rehearse import rehearse

    monkeypatch.setattr(rivals, "MIXTURES", 60)  # the rivals need not be good
    data = write_folder(tmp_path / "data", clips=14, seconds=3.0)
    arguments = ["--data", str(data), "--minutes", "0.08", "--again-minutes", "0.04", "--windows", "6", "--json"]
    done = CliRunner().invoke(rehearse, arguments, catch_exceptions=False)
    found = json.loads(done.stdout)
    assert found["split"] == {"older": 30, "new": 6, "later": 6, "undated": 42}
    assert found["new"] == {"windows": 6, "recordings": 6, "asked": 6}
    assert (found["later"]["windows"], found["later"]["recordings"], found["later"]["classes"]) == (6, 6, 3)
    assert found["base"]["recordings"] >= 3 and len(found["says"]) == 2
    assert found["above_0"] is (found["later"]["low"] > 0)
    assert "42 of 42 recordings have no date" in done.stderr and "MLflow does not answer" in done.stderr

    champion, release = (load_release(settings.releases / found[who]) for who in ("champion", "release"))
    assert release.release.metrics["training"]["plan"]["begins_with"] == champion.digest
    taught = [trained_on(one, settings.root / "datasets").recordings for one in (champion, release)]
    older, new, later = ({clip.recording for clip in read_catalog(folder).clips} for folder in sorted_folders(found["folder"]))
    assert taught[0] < older and taught[1] == taught[0] | new
    assert not taught[1] & later

    again = CliRunner().invoke(rehearse, arguments[:-1], catch_exceptions=False)
    assert again.stdout.count("have made this release already") == 2
    assert again.stdout.splitlines()[-1] == found["release"] and found["says"][0] in again.stdout


def sorted_folders(home: str) -> list[Path]:
    """The older, the new and the later folder."""
    return [next(Path(home).glob(f"*-{side}")) for side in ("older", "new", "later")]
