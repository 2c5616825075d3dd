"""Set-up: steps that are done are skipped, what was interrupted is done again, what cannot be done is one sentence."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from compose.local import apt, setup, tools
from compose.local.setup import SetupError, Step


@pytest.fixture(autouse=True)
def own_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "stamps").mkdir()
    monkeypatch.setattr(setup, "STAMPS", tmp_path / "stamps")
    monkeypatch.setattr(setup, "TOOLS", tmp_path)
    monkeypatch.setattr(tools, "SETUP_LOG", tmp_path / "setup.log")


def step(tmp_path: Path, runs: list[str], **values: Any) -> Step:
    (tmp_path / "input").write_text("1")
    thing = tmp_path / "thing"

    def build() -> None:
        runs.append("built")
        thing.touch()

    usual: dict[str, Any] = {"name": "s", "title": "t", "inputs": (tmp_path / "input",), "there": (thing,), "disk_gb": 0.1}
    return Step(**{**usual, "build": build, **values})


def test_a_step_is_done_once_and_again_when_its_inputs_change(tmp_path: Path) -> None:
    runs: list[str] = []
    one = step(tmp_path, runs)
    assert not one.done()
    setup.perform(one, "[1/1]")
    assert one.done()
    (tmp_path / "input").write_text("2")
    assert not one.done()
    setup.perform(one, "[1/1]")
    (tmp_path / "thing").unlink()
    assert not one.done(), "what was built is gone"


def test_an_interrupted_step_is_not_done(tmp_path: Path) -> None:
    def interrupted() -> None:
        (tmp_path / "thing").touch()
        raise KeyboardInterrupt

    one = step(tmp_path, [], build=interrupted)
    with pytest.raises(KeyboardInterrupt):
        setup.perform(one, "[1/1]")
    assert not one.done()


def test_an_optional_step_that_fails_is_said_and_left_for_next_time(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def refused() -> None:
        raise SetupError("no network")

    one = step(tmp_path, [], build=refused, optional=True)
    setup.perform(one, "[1/1]")
    assert "Left out: no network" in capsys.readouterr().out
    assert not one.done()
    with pytest.raises(SetupError):
        setup.perform(step(tmp_path, [], build=refused), "[1/1]")


def test_too_small_a_disk_stops_before_anything_starts(tmp_path: Path) -> None:
    with pytest.raises(SetupError, match=r"needs 1000002\.0 GB"):
        setup.check_disk([step(tmp_path, [], disk_gb=1e6)])


def test_what_a_failed_command_said_is_shown() -> None:
    with pytest.raises(SetupError, match=r"ended with 3[\s\S]*the reason"):
        setup.run(["sh", "-c", "echo the reason >&2; exit 3"])


def test_where_nothing_may_be_installed_the_command_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tools, "missing_programs", lambda: [tools.REDIS, tools.JAVA])
    monkeypatch.setattr(apt, "root_prefix", lambda: None)
    with pytest.raises(SetupError) as stopped:
        setup.build_system()
    assert "sudo apt-get install --no-install-recommends redis-server openjdk-17-jre-headless" in str(stopped.value)


def test_services_are_held_back_only_while_installing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    policy = tmp_path / "policy-rc.d"
    monkeypatch.setattr(apt, "POLICY", policy)
    seen: list[bool] = []
    with pytest.raises(SetupError), apt.services_held_back([], setup.run):
        seen.append(policy.exists())
        raise SetupError("apt failed")
    assert seen == [True]
    assert not policy.exists()
    policy.write_text("the machine's own")
    with apt.services_held_back([], setup.run):
        pass
    assert policy.read_text() == "the machine's own"


def test_the_locks_name_hashes_and_no_addresses() -> None:
    files = [tools.ROOT / "requirements.txt", *tools.LOCAL.glob("*-requirements.txt")]
    assert len(files) == 5
    for file in files:
        text = file.read_text()
        pins = [line for line in text.splitlines() if "==" in line and not line.startswith("#")]
        assert pins, file
        assert "--hash=sha256:" in text, file
        assert "://" not in text.replace("file:///", ""), file
