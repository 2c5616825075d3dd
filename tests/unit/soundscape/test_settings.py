"""One stack is one folder and one range of ports."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from soundscape.errors import Invalid
from soundscape.settings import Port, Settings, get_settings


def all_ports(settings: Settings) -> list[int]:
    """Every port that a stack of the largest size takes."""
    workers = [settings.port(lane, n) for lane in (Port.LIVE, Port.BULK) for n in range(10)]
    return [settings.port(port) for port in Port if port not in (Port.LIVE, Port.BULK)] + workers


def test_no_two_processes_share_a_port() -> None:
    """With the most workers that are allowed in each lane."""
    found = all_ports(Settings(live_workers=10, bulk_workers=10))
    assert len(set(found)) == len(found)


def test_every_port_follows_the_base() -> None:
    """Two stacks whose bases lie 50 apart share none, and the highest base still gives ports that exist."""
    assert not set(all_ports(Settings(port_base=21000))) & set(all_ports(Settings(port_base=21050)))
    assert max(all_ports(Settings(port_base=65000))) <= 65535
    assert Settings(port_base=21000).url(Port.GATEWAY) == "http://127.0.0.1:21000"


def test_all_state_lies_under_one_folder(tmp_path: Path) -> None:
    """Nothing of a stack is left when its folder is removed."""
    settings = Settings(data_dir=tmp_path)
    folders = ("online_input", "online_output", "releases", "model_repository", "state", "logs")
    assert {getattr(settings, name).parent for name in folders} == {tmp_path}


def test_settings_come_from_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """By their prefix alone."""
    monkeypatch.setenv("SOUNDSCAPE_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("SOUNDSCAPE_SITE", "otra")
    monkeypatch.setenv("PORT_BASE", "1")
    settings = Settings()
    assert (settings.root, settings.site, settings.port_base) == (tmp_path, "otra", Settings.model_fields["port_base"].default)


@pytest.mark.parametrize("bad", [{"port_base": 80}, {"port_base": 65500}, {"live_workers": 0}, {"bulk_workers": 11}, {"log_cap_gb": 0}])
def test_settings_out_of_range_are_refused(bad: dict[str, float]) -> None:
    """At the start, not when the port or the worker is needed."""
    with pytest.raises(ValidationError):
        Settings.model_validate(bad)


def test_settings_do_not_change() -> None:
    """They are read once and handed on."""
    with pytest.raises(ValidationError):
        Settings().site = "other"  # type: ignore[misc]


def test_a_setting_that_does_not_hold_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """With what was given; it is no traceback."""
    monkeypatch.setenv("SOUNDSCAPE_PORT_BASE", "80")
    monkeypatch.setenv("SOUNDSCAPE_SAMPLE_RATE", "often")
    with pytest.raises(Invalid, match=r"SOUNDSCAPE_PORT_BASE='80'.*SOUNDSCAPE_SAMPLE_RATE='often'"):
        get_settings.__wrapped__()
