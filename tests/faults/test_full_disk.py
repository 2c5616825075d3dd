"""The disk under the data folder fills up: nothing is accepted that could not be kept, it is said, and nothing is damaged."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from soundscape.testing import Stack, ogg, running_stack, wait_for
from soundscape.testing_log import flowing

CLIPS = 60
FREE_GB = 0.4
"""Below so much the doors close; the broker itself still has room for what it has taken."""


@pytest.fixture
def cramped(tmp_path: Path) -> Iterator[Stack]:
    """A stack on a disk of its own of 1.5 GB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1500m", "tmpfs", str(folder)]
    mounted = subprocess.run(mount, capture_output=True, text=True, check=False)
    if mounted.returncode != 0:
        pytest.fail(f"A disk of its own needs root ({mounted.stderr.strip()}); run: sudo make test-all ARGS=tests/faults/test_full_disk.py")
    try:
        with running_stack(folder / "data", min_free_gb=str(FREE_GB)) as stack:
            yield stack
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=False)


@pytest.mark.slow
def test_a_full_disk_is_said_and_damages_nothing(cramped: Stack) -> None:
    root, filler = cramped.settings.root, cramped.settings.root / "filler"
    cramped.run("deploy", "tones")
    with flowing(cramped.settings, [ogg(5.0, 500.0)], CLIPS, "full") as flow:
        flow.reaches(CLIPS // 3)
        with filler.open("wb") as file:
            while shutil.disk_usage(root).free > FREE_GB * 0.8e9:
                file.write(bytes(4_000_000))
                file.flush()
        refused = cramped.post(ogg(5.0, 2000.0), site="test")
        assert (refused.status_code, refused.json()["reason"]) == (503, "disk-full"), refused.text
        assert refused.headers["retry-after"] and "free" in refused.json()["detail"].lower()
        ready = httpx.get(f"{cramped.gateway_url}/readyz", timeout=10.0)
        assert ready.status_code == 503 and "GB free" in ready.json()["why"]
        waits = cramped.settings.online_input / "waits.ogg"
        (cramped.settings.online_input / ".waits").write_bytes(ogg(5.0, 8000.0))
        (cramped.settings.online_input / ".waits").rename(waits)
        flow.reaches(CLIPS)
        assert not (cramped.settings.online_output / "waits.csv").exists(), "the watcher took it all the same"
        filler.unlink()
    assert cramped.post(ogg(5.0, 2000.0), site="test", wait=25).json()["state"] == "predicted"
    answer = wait_for(lambda: (path := cramped.settings.online_output / "waits.csv").exists() and path.read_text(), "the file's answer")
    assert len(answer.splitlines()) == 2
    found = cramped.audit()
    assert (found["lost"], found["twice"], found["dead"]) == (0, 0, 0)
    assert found["accepted"] == found["predicted"] == CLIPS + 2
    assert not list(cramped.settings.online_output.glob(".*")), "half a file was left"
