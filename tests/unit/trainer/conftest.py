"""What several tests of the trainer begin with."""

from __future__ import annotations

from pathlib import Path

import pytest

from soundscape.release import LoadedRelease
from soundscape.settings import Settings
from soundscape.testing import tone_release
from trainer.data import store
from trainer.data.prepare import prepare
from trainer.testing import write_folder


@pytest.fixture(scope="session")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> store.Prepared:
    """The least that can be learnt from; nobody changes it."""
    home = tmp_path_factory.mktemp("least")
    return prepare(write_folder(home / "data", clips=2, seconds=1.0, minutes=0), home / "datasets", lambda _: None, children=0)[0]


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """A stack's folder of this test's own, at ports where none is up."""
    return Settings(data_dir=tmp_path, port_base=64000)


@pytest.fixture
def loaded(settings: Settings) -> LoadedRelease:
    """The release of tones."""
    return tone_release(settings.releases / "tones", "tones")
