"""BirdCLEF 2025 by Kaggle's client: a program of that name stands in for it, which writes an archive as it does."""

from __future__ import annotations

import shutil
import stat
import sys
import zipfile
from pathlib import Path

import pytest
from click.testing import CliRunner

from soundscape.errors import Invalid, Unavailable
from trainer.data.catalog import Catalog
from trainer.data.fetch import fetch
from trainer.data.fetch_kaggle import fetch_competition, unpack
from trainer.testing import write_folder


def said(_: str) -> None:
    return None


def brought(folder: Path) -> Catalog:
    return fetch_competition(folder, said, lambda *_: None)


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    """What Kaggle would send."""
    return Path(shutil.make_archive(str(tmp_path / "served"), "zip", write_folder(tmp_path / "source", clips=1, seconds=0.3)))


@pytest.fixture
def client(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty PATH and home; the file to write the stand-in into with `act`."""
    home = tmp_path / "home"
    (home / "bin").mkdir(parents=True)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("PATH", str(home / "bin"))
    monkeypatch.setattr(sys, "executable", str(home / "no" / "python"))
    for name in ("KAGGLE_USERNAME", "KAGGLE_KEY", "KAGGLE_API_TOKEN", "KAGGLE_CONFIG_DIR", "XDG_CONFIG_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("trainer.data.fetch_kaggle.ARCHIVE_GB", 0.001)
    return home / "bin" / "kaggle"


def act(client: Path, script: str, token: bool = True) -> None:
    """Let the stand-in run a shell script: $1 … are its arguments, $6 the folder."""
    client.write_text(f"#!/bin/sh\necho \"$@\" >> {client}.asked\n{script}\n", encoding="utf-8")
    client.chmod(client.stat().st_mode | stat.S_IXUSR)
    if token:
        (client.parent.parent / ".kaggle").mkdir(exist_ok=True)
        (client.parent.parent / ".kaggle" / "kaggle.json").write_text("{}", encoding="utf-8")


def test_without_client_or_token_one_sentence_says_how_to_get_them(client: Path, tmp_path: Path) -> None:
    for what in ("client is not here", "has no token"):
        result = CliRunner().invoke(fetch, ["birdclef-2025", "--to", str(tmp_path / "to")])
        assert isinstance(result.exception, Invalid)
        for part in (what, "accept the rules", "install Kaggle's client", "kaggle.json", "soundscape fetch birdclef-2025"):
            assert part in result.exception.detail
        act(client, "exit 0", token=False)
    assert not Path(f"{client}.asked").exists()


def test_it_is_downloaded_unpacked_read_and_not_fetched_again(client: Path, archive: Path, tmp_path: Path) -> None:
    act(client, f'/bin/cp {archive} "$6/birdclef-2025.zip"')
    to = tmp_path / "to here"
    catalog = brought(to)
    assert len(catalog.clips) == 3 and (to / "train_audio" / catalog.clips[0].filename).is_file()
    assert not (to / "birdclef-2025.zip").exists(), "its room is given back"
    assert len(brought(to).clips) == 3
    assert Path(f"{client}.asked").read_text(encoding="utf-8").splitlines() == [f"competitions download -c birdclef-2025 -p {to}"]


def test_half_an_archive_is_handed_to_the_client_again(client: Path, archive: Path, tmp_path: Path) -> None:
    act(client, f'/bin/dd if={archive} of="$6/birdclef-2025.zip" bs=1000 count=2 2>/dev/null; echo cut; exit 1')
    with pytest.raises(Unavailable, match=r"ended with code 1 \(cut\).*goes on"):
        brought(tmp_path / "to")
    assert (tmp_path / "to" / "birdclef-2025.zip").stat().st_size == 2000
    act(client, f'/bin/cp {archive} "$6/birdclef-2025.zip"')
    assert len(brought(tmp_path / "to").clips) == 3


@pytest.mark.parametrize(
    ("words", "says"),
    [("403 - Forbidden - You must accept this competition's rules", "accept the rules"), ("401 - Unauthorized", "make a new one")],
)
def test_a_refusal_is_told_with_its_cure(client: Path, tmp_path: Path, words: str, says: str) -> None:
    act(client, f'echo "{words}" >&2; exit 1')
    with pytest.raises(Invalid, match=says):
        brought(tmp_path / "to")


def test_a_disk_that_is_too_small_is_said_before_the_download(client: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    act(client, "exit 0")
    monkeypatch.setattr("trainer.data.fetch_kaggle.ARCHIVE_GB", 1e9)
    with pytest.raises(Invalid, match="GB are needed"):
        brought(tmp_path / "to")
    assert not Path(f"{client}.asked").exists()


@pytest.mark.parametrize("name", ["../out.csv", "/out.csv", "train_audio/../../out.csv", "link"])
def test_nothing_is_unpacked_of_an_archive_that_leads_outside(tmp_path: Path, name: str) -> None:
    with zipfile.ZipFile(tmp_path / "bad.zip", "w") as packed:
        packed.writestr("train.csv", "harmless")
        one = zipfile.ZipInfo(name)
        one.external_attr = (stat.S_IFLNK | 0o777) << 16 if name == "link" else 0o600 << 16
        packed.writestr(one, "/etc")
    with pytest.raises(Invalid, match="leads outside"):
        unpack(tmp_path / "bad.zip", tmp_path / "to", lambda *_: None)
    assert not (tmp_path / "to").exists() and not (tmp_path / "out.csv").exists()


def test_unpacking_goes_on_where_it_stopped(archive: Path, tmp_path: Path) -> None:
    to = tmp_path / "to"
    to.mkdir()
    unpack(archive, to, lambda *_: None)
    whole = sorted(path for path in to.rglob("*") if path.is_file())
    whole[0].unlink()
    whole[1].write_bytes(b"half")
    told = list[tuple[int, int]]()
    unpack(archive, to, lambda _what, n, of: told.append((n, of)))
    assert told == [(len(whole) - 1, len(whole)), (len(whole), len(whole))]
    assert sorted(path for path in to.rglob("*") if path.is_file()) == whole and whole[1].stat().st_size > 4


def test_an_archive_with_a_spoilt_file_is_refused(archive: Path, tmp_path: Path) -> None:
    body = bytearray(archive.read_bytes())
    with zipfile.ZipFile(archive) as packed:
        one = max(packed.infolist(), key=lambda one: one.compress_size)
        at = one.header_offset + 30 + len(one.filename) + one.compress_size // 2
    body[at : at + 64] = bytes(64)
    archive.write_bytes(body)
    to = tmp_path / "to"
    to.mkdir()
    with pytest.raises(Invalid, match="delete it"):
        unpack(archive, to, lambda *_: None)
    assert not (to / one.filename).exists()
