"""A data folder prepared: what is left out is said, and what is done is not done again."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from soundscape.audio import decode
from soundscape.errors import Invalid
from soundscape.features import log_mel
from trainer import store
from trainer.catalog import read_catalog
from trainer.prepare import folder_of, prepare
from trainer.testing import write_folder


def _quiet(_: str) -> None:
    return None


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = write_folder(tmp_path_factory.mktemp("source") / "data", clips=3, seconds=1.0)
    audio = folder / "train_audio"
    (audio / "10" / "XC1.ogg").write_bytes(b"no sound at all")
    (audio / "10" / "XC2.ogg").write_bytes((audio / "10" / "XC1000.ogg").read_bytes()[:2000])
    shutil.copy(audio / "2" / "XC2000.ogg", audio / "abcdef1" / "XC2000.ogg")
    table = "".join(f"{name.split('/')[0]},[''],{name}\n" for name in ("10/XC1.ogg", "10/XC2.ogg", "10/XC3.ogg", "abcdef1/XC2000.ogg"))
    with (folder / "train.csv").open("a", encoding="utf-8") as file:
        file.write(table)
    (folder / "soundscape_events.csv").write_text(
        "filename,start,end,primary_label,clip,snr_db\nTST_20260101_000000.ogg,0,5,10,10/XC1001.ogg,9.0\n", encoding="utf-8"
    )
    return folder


@pytest.fixture(scope="module")
def prepared(source: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[store.Prepared, Path]:
    datasets = tmp_path_factory.mktemp("datasets")
    found, _ = prepare(source, datasets, _quiet)
    return found, datasets


def test_what_is_left_out_is_reported_with_its_reason(prepared: tuple[store.Prepared, Path]) -> None:
    report = json.loads((prepared[0].folder / "report.json").read_text(encoding="utf-8"))
    reasons = {one["name"]: one["reason"] for one in report["left_out"]}
    assert reasons == {
        "train_audio/10/XC1.ogg": "not-audio",
        "train_audio/10/XC2.ogg": "truncated",
        "train_audio/10/XC3.ogg": "missing",
        "train_audio/abcdef1/XC2000.ogg": "duplicate",
    }
    assert report["placed"] == 1


def test_the_same_sound_in_two_folders_is_one_clip_with_both_labels(prepared: tuple[store.Prepared, Path]) -> None:
    clip = next(item for item in prepared[0].items if item.name == "train_audio/2/XC2000.ogg")
    assert clip.labels == ("2", "abcdef1")


def test_a_clip_heard_in_a_labelled_soundscape_is_not_trained_on(prepared: tuple[store.Prepared, Path]) -> None:
    assert "train_audio/10/XC1001.ogg" not in {item.name for item in prepared[0].of(store.TRAIN)}
    assert "train_audio/10/XC1001.ogg" in {item.name for item in prepared[0].of(store.VALIDATION)}


def test_windows_are_those_that_are_served(prepared: tuple[store.Prepared, Path]) -> None:
    found = prepared[0]
    item = next(item for item in found.of(store.JUDGE))
    served = log_mel(decode((found.source / item.name).read_bytes()), found.spec)
    windows = found.windows(item)
    assert windows.shape == served.shape == (3, *found.spec.shape)
    # The edge frames aside (there a clip is reflected, and a window padded), only float16 lies between.
    assert np.abs(windows[:, :, 4:-4] - served[:, :, 4:-4]).max() < 0.001


def test_it_goes_on_where_it_stopped(source: Path, tmp_path: Path) -> None:
    first, _ = prepare(source, tmp_path, _quiet, children=0)
    ledger = first.folder / "raw" / "ledger.jsonl"
    lines = ledger.read_text(encoding="utf-8").splitlines()
    ledger.write_text("\n".join(lines[:4]) + "\n" + lines[4][:20], encoding="utf-8")  # killed while it wrote the fifth
    (first.folder / "dataset.json").unlink()
    stamps = {file: (first.folder / file).stat().st_mtime_ns for file in (item.file for item in first.items)}
    again, _ = prepare(source, tmp_path, _quiet, children=0)
    assert again == first
    kept = {json.loads(line)["file"] for line in lines[:4]}
    assert {file for file, stamp in stamps.items() if (first.folder / file).stat().st_mtime_ns == stamp} == kept


def test_a_changed_file_is_heard_again_and_changes_the_digest(source: Path, tmp_path: Path) -> None:
    folder = tmp_path / "data"
    shutil.copytree(source, folder)
    before, _ = prepare(folder, tmp_path / "datasets", _quiet, children=0)
    shutil.copy(folder / "train_audio" / "2" / "XC2001.ogg", folder / "train_audio" / "2" / "XC2002.ogg")
    after, _ = prepare(folder, tmp_path / "datasets", _quiet, children=0)
    assert before.digest != after.digest


def test_folders_with_other_files_do_not_share_a_data_set(source: Path, tmp_path: Path) -> None:
    folder = tmp_path / "data"
    shutil.copytree(source, folder)
    before = folder_of(tmp_path, read_catalog(folder))
    (folder / "train_audio" / "2" / "XC2001.ogg").unlink()
    assert folder_of(tmp_path, read_catalog(folder)) != before


def test_a_folder_with_one_species_left_is_refused(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "data", clips=1, seconds=0.5)
    for label in ("2", "abcdef1"):
        shutil.rmtree(folder / "train_audio" / label)
    with pytest.raises(Invalid, match="1 species"):
        prepare(folder, tmp_path / "datasets", _quiet, children=0)
