"""A data folder prepared: what is left out is said, and what is done is not done again."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile

from soundscape.audio import decode, encode_ogg
from soundscape.errors import Invalid
from soundscape.features import log_mel
from trainer.data import store
from trainer.data.catalog import read_catalog
from trainer.data.prepare import folder_of, prepare
from trainer.data.prepare_table import show_report
from trainer.testing import RATE, call, write_folder


def _quiet(_: str) -> None:
    return None


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = write_folder(tmp_path_factory.mktemp("source") / "data", clips=3, seconds=1.0)
    audio = folder / "train_audio"
    (audio / "10" / "XC1.ogg").write_bytes(b"no sound at all")
    (audio / "10" / "XC2.ogg").write_bytes((audio / "10" / "XC1000.ogg").read_bytes()[:2000])
    shutil.copy(audio / "2" / "XC2000.ogg", audio / "abcdef1" / "XC2000.ogg")
    soundfile.write(audio / "10" / "XC4.ogg", np.zeros(RATE, np.float32), RATE, format="OGG", subtype="VORBIS")
    tone = (call("10", 1.0, np.random.default_rng(7)) * 20_000).astype(np.int16)
    for name in ("10/XC7.wav", "10/XC8.flac"):
        soundfile.write(audio / name, tone, RATE, subtype="PCM_16")
    names = ("10/XC1.ogg", "10/XC2.ogg", "10/XC3.ogg", "10/XC4.ogg", "abcdef1/XC2000.ogg", "10/XC7.wav", "10/XC8.flac")
    table = "".join(f"{name.split('/')[0]},[''],{name}\n" for name in names)
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
        "train_audio/10/XC4.ogg": "silent",
        "train_audio/10/XC8.flac": "duplicate",
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
    (folder / "train_audio").rename(folder / "audio")
    with pytest.raises(Invalid, match="no train_audio"):
        prepare(folder, tmp_path / "datasets", _quiet, children=0)


def test_the_report_says_what_the_folder_holds(prepared: tuple[store.Prepared, Path]) -> None:
    found = json.loads((prepared[0].folder / "report.json").read_text(encoding="utf-8"))["integrity"]
    assert found["same_bytes"] == [["train_audio/2/XC2000.ogg", "train_audio/abcdef1/XC2000.ogg"]]
    assert found["same_sound"] == [["train_audio/10/XC7.wav", "train_audio/10/XC8.flac"]]
    assert found["rare"] == {"10": 4, "2": 3, "abcdef1": 3}
    assert (found["seconds"]["min"], found["seconds"]["median"], found["seconds"]["max"]) == (1.0, 1.0, 15.0)
    assert found["recordings"] == {"train": 9, "validation": 1, "shared": 1, "on both sides": 0}
    assert found["by_time"]["undated"] == sum(found["by_time"][side] for side in ("older", "new", "later")) == 15


def test_a_sound_that_judges_teaches_under_no_other_name(source: Path, tmp_path: Path) -> None:
    folder = tmp_path / "data"
    shutil.copytree(source, folder)
    shutil.copy(folder / "train_audio" / "10" / "XC1001.ogg", folder / "train_audio" / "2" / "XC5.ogg")
    head, *rows = (folder / "train.csv").read_text(encoding="utf-8").splitlines()
    (folder / "train.csv").write_text("\n".join([head, "2,[''],2/XC5.ogg", *rows]) + "\n", encoding="utf-8")
    found, report = prepare(folder, tmp_path / "datasets", _quiet, children=0)
    (kept,) = (item for item in found.items if item.name in ("train_audio/10/XC1001.ogg", "train_audio/2/XC5.ogg"))
    assert (kept.name, kept.role, kept.labels) == ("train_audio/10/XC1001.ogg", store.VALIDATION, ("10", "2"))
    assert "train_audio/2/XC5.ogg" in {one.name for one in report.left_out}


def test_of_a_long_sound_the_minute_that_is_taken_counts(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "data", clips=1, seconds=0.5, minutes=0)
    name = next((folder / "train_audio" / "2").iterdir())
    name.write_bytes(encode_ogg(call("2", 75.0, np.random.default_rng(1))))
    found, report = prepare(folder, tmp_path / "datasets", _quiet, children=0)
    (item,) = (item for item in found.items if item.labels == ("2",))
    assert item.seconds == 60.0 and report.counts[store.TRAIN] == {"sounds": 3, "windows": 14, "seconds": 61}
    assert report.integrity.seconds["max"] == 75.0 and report.cut == [item.name]


def test_a_rating_that_is_none_is_refused_and_others_are_counted(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "data", clips=1, seconds=0.5, minutes=0)
    head, *rows = (folder / "train.csv").read_text(encoding="utf-8").splitlines()
    rated = [f"{row},{rating}" for row, rating in zip(rows, ("0", "4.5", ""), strict=True)]
    (folder / "train.csv").write_text("\n".join([f"{head},rating", *rated]) + "\n", encoding="utf-8")
    assert prepare(folder, tmp_path / "datasets", _quiet, children=0)[1].integrity.ratings == {"none": 2, "4.5": 1}
    (folder / "train.csv").write_text("\n".join([f"{head},rating", *rated[:2], f"{rows[2]},good"]) + "\n", encoding="utf-8")
    with pytest.raises(Invalid, match="rating 'good'"):
        prepare(folder, tmp_path / "datasets", _quiet, children=0)


def test_a_full_disk_is_said_and_the_same_command_goes_on(source: Path, tmp_path: Path) -> None:
    ledger = folder_of(tmp_path, read_catalog(source)) / "raw" / "ledger.jsonl"
    ledger.parent.mkdir(parents=True)
    ledger.symlink_to("/dev/full")
    with pytest.raises(Invalid, match=r"disk of .* is full"):
        prepare(source, tmp_path, _quiet, children=0)
    ledger.unlink()
    assert prepare(source, tmp_path, _quiet, children=0)[1].digest


def test_the_table_tells_all_of_it(source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    show_report(prepare(source, tmp_path, _quiet, children=0)[1])
    told = capsys.readouterr().out
    for part in ("1 lie in several species' folders, 0 on both sides", "15 of 15 have no date", "Nobody listened for human speech",
                 "missing: 1", "silent: 1", "train_audio/10/XC7.wav = train_audio/10/XC8.flac", "10 (4), 2 (3), abcdef1 (3)"):  # fmt: skip
        assert part in told
