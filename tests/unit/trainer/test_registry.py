"""A registered release comes back whole and under its own name, or not at all; on a real MLflow: tests/integration/test_registry.py."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import mlflow
import pytest

from soundscape.errors import Invalid
from soundscape.release import LoadedRelease
from soundscape.settings import Settings
from soundscape.testing import tone_release
from trainer.releases import registry


@pytest.fixture
def made(tmp_path: Path) -> LoadedRelease:
    """What the registry holds the files of."""
    return tone_release(tmp_path / "elsewhere" / "tones", "tones")


def offered(monkeypatch: pytest.MonkeyPatch, made: LoadedRelease, **tags: str) -> None:
    """A registry whose one version has these tags, and these files."""
    version = SimpleNamespace(tags={"release": "tones", "digest": made.digest, **tags}, run_id="run", version="1")
    monkeypatch.setattr(registry, "reachable", lambda _: True)
    monkeypatch.setattr(mlflow, "set_tracking_uri", lambda _: None)
    monkeypatch.setattr(mlflow, "MlflowClient", lambda: SimpleNamespace(get_model_version=lambda *_: version))

    def download(dst_path: str, **_: Any) -> str:
        return str(shutil.copytree(made.folder, Path(dst_path) / "release"))

    monkeypatch.setattr(mlflow.artifacts, "download_artifacts", download)


def test_what_was_registered_comes_back(settings: Settings, made: LoadedRelease, monkeypatch: pytest.MonkeyPatch) -> None:
    offered(monkeypatch, made)
    assert registry.fetch(settings, "forest/1").digest == made.digest
    assert registry.fetch(settings, "forest/1").folder == settings.releases / "tones", "and is not fetched again"


@pytest.mark.parametrize(
    "tags", [{"release": ".."}, {"release": ".hidden"}, {"release": "../out"}, {"release": ""}, {"release": "other"}, {"digest": "0" * 64}]
)
def test_what_is_not_what_it_is_registered_as_leaves_nothing(
    settings: Settings, made: LoadedRelease, monkeypatch: pytest.MonkeyPatch, tags: dict[str, str]
) -> None:
    """Neither among the releases nor beside them."""
    settings.releases.mkdir(parents=True)
    offered(monkeypatch, made, **tags)
    before = sorted(settings.root.rglob("*"))
    with pytest.raises(Invalid):
        registry.fetch(settings, "forest/1")
    assert sorted(settings.root.rglob("*")) == before
