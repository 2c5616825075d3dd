"""When clips were recorded, from wherever it is said."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import pytest

from soundscape.errors import Invalid
from trainer.data.catalog import read_catalog
from trainer.data.dates import named_day
from trainer.testing import write_folder


@pytest.mark.parametrize(
    ("name", "day"),
    [
        ("a/ISET_No_ID_20170802_132433.ogg", date(2017, 8, 2)),
        ("H02_20230421_063000.ogg", date(2023, 4, 21)),
        ("20191231-dawn.ogg", date(2019, 12, 31)),
        ("a/iNat20170802.ogg", None),  # a number
        ("a/XC123_20170231_20170228.ogg", date(2017, 2, 28)),  # no 31st of February
        ("a/ISET_201708021_1.ogg", None),
        ("20170802/XC1.ogg", None),  # the folder says who, not when
    ],
)
def test_a_day_in_a_name(name: str, day: date | None) -> None:
    assert named_day(name) == day


def _with(folder: Path, column: str, values: dict[int, str]) -> None:
    table = folder / "train.csv"
    header, *rows = table.read_text().splitlines()
    table.write_text("\n".join([f"{header},{column}", *(f"{row},{values.get(n, '')}" for n, row in enumerate(rows))]) + "\n")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Six clips, none with a date."""
    return write_folder(tmp_path / "data", clips=2, seconds=0.5, minutes=0)


def test_without_any_the_day_is_not_known(folder: Path) -> None:
    assert {clip.date for clip in read_catalog(folder).clips} == {None}


def test_the_table_goes_before_the_list_and_the_list_before_the_name(folder: Path) -> None:
    first, second, third, *_ = (clip.filename for clip in read_catalog(folder).clips)
    named = third.replace("XC", "TAKE_20150505_")
    (folder / "train_audio" / third).rename(folder / "train_audio" / named)
    (folder / "train.csv").write_text((folder / "train.csv").read_text().replace(third, named))
    _with(folder, "date", {0: "2020-01-02", 3: "2012-00-00"})
    (folder / "dates.csv").write_text(f"filename,date\n{first},2021-01-01\n{second},2022-02-02T06:00\n")
    found = [clip.date for clip in read_catalog(folder).clips]
    assert found == [date(2020, 1, 2), date(2022, 2, 2), date(2015, 5, 5), None, None, None]


def test_a_list_may_name_recordings(folder: Path) -> None:
    clip = read_catalog(folder).clips[1]
    before = read_catalog(folder).listing
    (folder / "dates.csv").write_text(f"recording,date\n{clip.recording},2022-02-02\n")
    assert [one.date for one in read_catalog(folder).clips if one.date] == [date(2022, 2, 2)]
    assert read_catalog(folder).listing != before


@pytest.mark.parametrize("text", ["filename,date\na/XC1.ogg,yesterday\n", "name,date\na,2020-01-01\n", "filename,day\na,2020-01-01\n"])
def test_a_list_that_says_nothing_is_refused(folder: Path, text: str) -> None:
    (folder / "dates.csv").write_text(text)
    with pytest.raises(Invalid, match=r"dates\.csv"):
        read_catalog(folder)


def test_a_list_of_another_encoding_is_refused_and_a_spreadsheets_is_read(folder: Path) -> None:
    clip = read_catalog(folder).clips[0]
    (folder / "dates.csv").write_bytes(f"filename,date\nM\xe4rz/{clip.filename},2020-01-01\n".encode("latin-1"))
    with pytest.raises(Invalid, match=r"dates\.csv is no CSV in UTF-8"):
        read_catalog(folder)
    (folder / "dates.csv").write_bytes(b"\xef\xbb\xbf" + f"date,filename\n2020-01-01,{clip.filename}\n".encode())
    assert read_catalog(folder).clips[0].date == date(2020, 1, 1)


def test_a_side_that_is_none_is_refused(folder: Path) -> None:
    _with(folder, "side", {0: "left"})
    with pytest.raises(Invalid, match="side"):
        read_catalog(folder)
