"""What several tests of the trainer begin with."""

from __future__ import annotations

from pathlib import Path

import pytest

from soundscape.release import LoadedRelease
from soundscape.settings import Settings
from soundscape.testing import tone_release


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """A stack's folder of this test's own, at ports where none is up."""
    return Settings(data_dir=tmp_path, port_base=64000)


@pytest.fixture
def loaded(settings: Settings) -> LoadedRelease:
    """The release of tones."""
    return tone_release(settings.releases / "tones", "tones")
