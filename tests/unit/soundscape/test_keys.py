"""Keys act at once, are stored only as hashes, and end when they are revoked."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest
from click.testing import CliRunner

from soundscape.errors import Invalid, Unavailable
from soundscape.keys import KeyRing, create_key, key, keys_file, read_keys, revoke_key
from soundscape.settings import Settings, get_settings


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(data_dir=tmp_path, site="el-silencio")


def test_a_key_acts_and_is_revoked_without_a_restart(settings: Settings) -> None:
    ring = KeyRing(keys_file(settings))
    assert ring.find("se_anything") is None
    made = create_key(settings, "ana")
    other = create_key(settings, "beto", site="bench")
    found, bound = ring.find(made), ring.find(other)
    assert found is not None and (found.name, found.site, found.bound) == ("ana", "el-silencio", False)
    assert bound is not None and (bound.site, bound.bound) == ("bench", True)
    revoke_key(settings, "ana")
    assert ring.find(made) is None
    assert ring.find(other) is not None


def test_an_operator_is_bound_to_no_site(settings: Settings) -> None:
    found = KeyRing(keys_file(settings)).find(create_key(settings, "root", "operator", "bench"))
    assert found is not None and (found.site, found.bound) == ("bench", False)


def test_only_the_hash_is_stored_and_only_the_owner_reads_it(settings: Settings) -> None:
    made = create_key(settings, "ana")
    assert made not in keys_file(settings).read_text()
    assert stat.S_IMODE(keys_file(settings).stat().st_mode) == 0o600
    assert stat.S_IMODE(settings.state.stat().st_mode) == 0o700


def test_a_name_is_used_once_until_it_is_revoked(settings: Settings) -> None:
    first = create_key(settings, "ana")
    with pytest.raises(Invalid, match="already"):
        create_key(settings, "ana")
    revoke_key(settings, "ana")
    with pytest.raises(Invalid, match="no key"):
        revoke_key(settings, "ana")
    second = create_key(settings, "ana")
    ring = KeyRing(keys_file(settings))
    assert ring.find(first) is None and ring.find(second) is not None


def test_a_name_that_no_stream_can_have_is_refused(settings: Settings) -> None:
    with pytest.raises(Invalid, match="name"):
        create_key(settings, "a/b")
    assert read_keys(keys_file(settings)) == []


def test_a_spoilt_file_lets_nobody_in(settings: Settings) -> None:
    made = create_key(settings, "ana")
    ring = KeyRing(keys_file(settings))
    assert ring.find(made) is not None
    keys_file(settings).write_text("[{")
    with pytest.raises(Unavailable, match="cannot be read"):
        ring.find(made)


def test_the_command_prints_the_key_as_its_last_word(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOUNDSCAPE_DATA_DIR", str(tmp_path))
    get_settings.cache_clear()
    try:
        said = CliRunner().invoke(key, ["create", "ana"], catch_exceptions=False).output
        listed = CliRunner().invoke(key, ["list"], catch_exceptions=False).output
        found = KeyRing(keys_file(get_settings())).find(said.split()[-1])
    finally:
        get_settings.cache_clear()
    assert found is not None and found.name == "ana"
    assert "ana" in listed and said.split()[-1] not in listed
