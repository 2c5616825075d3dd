"""The rules for tests hold: a skip fails, and what a marker leaves out is said with the cure."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

SKIPS = {
    "in_a_test": "import pytest\ndef test_a():\n    pytest.skip('no')\n",
    "by_decorator": "import pytest\n@pytest.mark.skip(reason='no')\ndef test_a(): ...\n",
    "a_whole_module": "import pytest\npytest.skip('no', allow_module_level=True)\n",
    "by_import": "import pytest\npytest.importorskip('no_such_module')\ndef test_a(): ...\n",
}
SETTINGS = "import os\ndef test_a():\n    assert [n for n in os.environ if n.startswith('SOUNDSCAPE_')] == ['SOUNDSCAPE_RECORDINGS']\n"
MARKED = "import pytest\n@pytest.mark.gpu\ndef test_a(): ...\n@pytest.mark.gpu\ndef test_b(): ...\ndef test_c(): ...\n"


def test_a_skip_fails_and_what_a_marker_leaves_out_is_said_with_the_cure(root: Path, tmp_path: Path) -> None:
    """However a test or a module skips itself; and count and command of what a marker leaves out."""
    shutil.copy(root / "tests" / "conftest.py", tmp_path / "conftest.py")
    shutil.copy(root / "pyproject.toml", tmp_path / "pyproject.toml")
    (tmp_path / "tests").mkdir()
    for name, source in {**SKIPS, "marked": MARKED}.items():
        (tmp_path / "tests" / f"test_{name}.py").write_text(source)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--continue-on-collection-errors", "-m", "not gpu"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    for name in SKIPS:
        assert f"test_{name}.py" in done.stdout
    assert done.stdout.count("skipped itself; ") >= len(SKIPS), done.stdout
    assert "1 passed" in done.stdout
    assert "skipped" not in done.stdout.splitlines()[-1]
    assert "2 tests marked gpu were left out; run them with: .venv/bin/python -m pytest -m gpu" in done.stdout


def test_the_callers_settings_reach_no_test(root: Path, tmp_path: Path) -> None:
    """All but the folder of recordings, which is there for tests alone."""
    shutil.copy(root / "tests" / "conftest.py", tmp_path / "conftest.py")
    (tmp_path / "test_settings.py").write_text(SETTINGS)
    environment = os.environ | {"SOUNDSCAPE_PORT_BASE": "31000", "SOUNDSCAPE_SITE": "otherplace", "SOUNDSCAPE_RECORDINGS": "here"}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", str(tmp_path), "test_settings.py"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
