"""Several data folders become one, and nothing is mixed up."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from soundscape.errors import Invalid
from trainer.data.catalog import read_catalog
from trainer.data.merge import merge
from trainer.data.split import split
from trainer.evaluation.material import read_material, sets_of
from trainer.testing import write_folder


@pytest.fixture
def base(tmp_path: Path) -> Path:
    """A small data folder."""
    return write_folder(tmp_path / "base", clips=2, seconds=1.0)


@pytest.fixture
def new(tmp_path: Path, base: Path) -> Path:
    """A dataset as a replay writes it: two windows of one stream's day, and one of another's."""
    folder, label = tmp_path / "new", read_catalog(base).labels[0]
    sound = next((base / "train_audio").rglob("*.ogg")).read_bytes()
    (folder / "train_audio" / label).mkdir(parents=True)
    columns = ["primary_label", "secondary_labels", "filename", "weight", "stream", "day"]
    rows = [("one_0", 0.4, "tour", "2026-11-24"), ("two_0", 1.0, "tour", "2026-11-24"), ("three_0", 0.9, "tour", "2026-11-25")]
    with (folder / "train.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(columns)
        for stem, weight, stream, day in rows:
            (folder / "train_audio" / label / f"{stem}.ogg").write_bytes(sound + stem.encode())
            table.writerow([label, "[]", f"{label}/{stem}.ogg", weight, stream, day])
    (folder / "taxonomy.csv").write_bytes((base / "taxonomy.csv").read_bytes())
    return folder


def test_everything_is_there_once(base: Path, new: Path, tmp_path: Path) -> None:
    before, added = read_catalog(base), read_catalog(new)
    catalog = read_catalog(merge([base, new], tmp_path / "home"))
    assert len(catalog.clips) == len(before.clips) + 3 and catalog.labels == before.labels and catalog.rows == before.rows
    assert {clip.filename for clip in catalog.clips} == {clip.filename for clip in (*before.clips, *added.clips)}
    assert all((catalog.folder / "train_audio" / clip.filename).is_file() for clip in catalog.clips)


def test_what_was_set_aside_to_judge_by_judges(base: Path, new: Path, tmp_path: Path) -> None:
    """A retrained release is judged on the held-out days of its log without anybody naming them."""
    before = read_material(merge([base, new], tmp_path / "home"))
    sound = next((base / "train_audio").rglob("*.ogg")).read_bytes()
    label = read_catalog(base).labels[0]
    (new / "evaluation" / "train_soundscapes").mkdir(parents=True)
    (new / "evaluation" / "train_soundscapes" / "held_20261126_060000.ogg").write_bytes(sound + b"held")
    (new / "evaluation" / "soundscape_labels.csv").write_text(f"row_id,labels\nheld_20261126_060000_5,{label}\n")
    after = merge([base, new], tmp_path / "home")
    found = read_material(after)
    assert {one.name for one in found.sounds} - {one.name for one in before.sounds} == {"train_soundscapes/held_20261126_060000.ogg"}
    assert found.digest != before.digest and sets_of(after) == {after.name: found.digest}
    assert read_catalog(after).clips == read_catalog(merge([base, new], tmp_path / "home")).clips


def test_the_weights_stay_and_a_day_of_a_stream_stays_together(base: Path, new: Path, tmp_path: Path) -> None:
    clips = {Path(clip.filename).stem: clip for clip in read_catalog(merge([base, new], tmp_path / "home")).clips}
    assert [clips[stem].weight for stem in ("one_0", "two_0", "three_0")] == [0.4, 1.0, 0.9]
    assert clips["one_0"].recording == clips["two_0"].recording != clips["three_0"].recording
    assert {clip.weight for stem, clip in clips.items() if not stem.endswith("_0")} == {1.0}


def test_the_same_folders_give_the_same_one_and_others_another(base: Path, new: Path, tmp_path: Path) -> None:
    first = merge([base, new], tmp_path / "home")
    assert merge([base, new], tmp_path / "home") == first != merge([base], tmp_path / "home")
    table = new / "train.csv"
    table.write_text(table.read_text().replace("0.9", "0.8"))
    assert merge([base, new], tmp_path / "home") != first


def test_what_contradicts_itself_is_refused(base: Path, new: Path, tmp_path: Path) -> None:
    taxonomy = new / "taxonomy.csv"
    taxonomy.write_text(taxonomy.read_text().replace(read_catalog(base).species[0].scientific, "Quite another"))
    with pytest.raises(Invalid, match="a label has one name"):
        merge([base, new], tmp_path / "home")
    with pytest.raises(Invalid, match=r"no train\.csv"):
        merge([base, tmp_path], tmp_path / "home")


@pytest.mark.parametrize("weight", ["heavy", "0", "-1", "nan", "11"])
def test_a_weight_that_is_none(new: Path, weight: str) -> None:
    table = new / "train.csv"
    table.write_text(table.read_text().replace("0.9", weight))
    with pytest.raises(Invalid, match="weight"):
        read_catalog(new)


def test_no_side_of_the_base_changes_because_something_was_added(tmp_path: Path) -> None:
    base, new = write_folder(tmp_path / "base", clips=8, seconds=0.5), tmp_path / "new"
    before, label = read_catalog(base), read_catalog(base).labels[0]
    (new / "train_audio" / label).mkdir(parents=True)
    rows = [f"{label},[],{label}/XC{n}.ogg" for n in range(90_000, 90_060)]
    for row in rows:
        (new / "train_audio" / row.rpartition(",")[2]).write_bytes(row.encode())
    (new / "train.csv").write_text("\n".join(["primary_label,secondary_labels,filename", *rows]) + "\n")
    (new / "taxonomy.csv").write_bytes((base / "taxonomy.csv").read_bytes())
    own, merged = split(before.clips, before.placed), read_catalog(merge([base, new], tmp_path / "home"))
    sides = split(merged.clips, merged.placed)
    assert {name: sides[name] for name in own} == own
    added = [side for name, side in sides.items() if name not in own]
    assert added.count("validation") == round(0.15 * 68) - list(own.values()).count("validation") // 3  # the rest of the species' share
