"""Reading BirdCLEF's tables."""

from __future__ import annotations

from pathlib import Path

import pytest

from soundscape.errors import Invalid
from trainer.data.catalog import parse_labels, read_catalog, recording_of
from trainer.testing import write_folder


@pytest.mark.parametrize(
    ("text", "labels"),
    [("['']", ()), ("[]", ()), ("", ()), ("['a', 'b']", ("a", "b")), ("['60', '60']", ("60",)), ("[' a ', '']", ("a",))],
)
def test_secondary_labels_are_read_from_their_string(text: str, labels: tuple[str, ...]) -> None:
    assert parse_labels(text) == labels


@pytest.mark.parametrize("text", ["a b", "[1, 2]", "{'a': 1}", "__import__('os')", "['a'"])
def test_what_is_no_list_of_strings_is_refused(text: str) -> None:
    with pytest.raises(Invalid):
        parse_labels(text)


def test_a_recording_is_known_by_its_id_in_every_folder() -> None:
    assert recording_of("a/XC123.ogg") == recording_of("b/XC123.ogg") == recording_of("b/XC123_part2.ogg") == "XC123"
    assert recording_of("a/XC123.ogg") != recording_of("a/XC1234.ogg")
    assert recording_of("a/My take 3.ogg") == "My take 3"


def test_labels_stay_strings_in_plain_string_order(tmp_path: Path) -> None:
    catalog = read_catalog(write_folder(tmp_path / "data", clips=1, seconds=0.5))
    assert catalog.labels == ("10", "2", "abcdef1")
    assert [row.labels for row in catalog.rows] == [("10",), ("2",), ("abcdef1",)]
    assert catalog.labelled == ("TST_20260101_000000.ogg",)
    assert catalog.unlabelled == ("BED_20260101_000000.ogg",)


def test_a_clip_of_an_unknown_species_or_outside_the_folder_is_refused(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "data", clips=1, seconds=0.5)
    table = (folder / "train.csv").read_text(encoding="utf-8")
    (folder / "train.csv").write_text(table + "nobody,[''],nobody/XC1.ogg\n", encoding="utf-8")
    with pytest.raises(Invalid, match="nobody"):
        read_catalog(folder)
    (folder / "train.csv").write_text(table + "10,[''],../secret.ogg\n", encoding="utf-8")
    with pytest.raises(Invalid, match="inside"):
        read_catalog(folder)


def test_a_folder_without_tables_is_named(tmp_path: Path) -> None:
    with pytest.raises(Invalid, match=r"train\.csv"):
        read_catalog(tmp_path)


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("train.csv", b"primary_label,secondary_labels\n10,[]\n", "lacks the column filename"),
        ("train.csv", b"primary_label,filename\n10\n", "without primary_label or filename"),
        ("train.csv", "primary_label,filename\n10,10/XC\xe4.ogg\n".encode("latin-1"), "no CSV in UTF-8"),
        ("soundscape_labels.csv", b"row_id,labels\nTST_20260101_000000_7,10\n", "no row that names a window"),
        ("taxonomy.csv", b"primary_label,scientific_name,common_name\n10,Vox,Voice\n", "must be a CSV with the columns"),
        ("taxonomy.csv", b"primary_label,scientific_name,common_name,class_name\n10,Vox\n", "without all of"),
        ("taxonomy.csv", "primary_label,scientific_name,common_name,class_name\n10,Vox,F\xfcr,Aves\n".encode("latin-1"), "no CSV in UTF-8"),
    ],
)
def test_a_table_that_is_none_is_refused_in_one_sentence(tmp_path: Path, name: str, text: bytes, says: str) -> None:
    folder = write_folder(tmp_path / "data", clips=1, seconds=0.5)
    (folder / name).write_bytes(text)
    with pytest.raises(Invalid, match=says) as refused:
        read_catalog(folder)
    assert str(refused.value).endswith(".")


def test_a_table_of_a_spreadsheet_is_read(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "data", clips=1, seconds=0.5)
    for name in ("train.csv", "taxonomy.csv"):
        (folder / name).write_bytes(b"\xef\xbb\xbf" + (folder / name).read_bytes())
    assert len(read_catalog(folder).clips) == 3
