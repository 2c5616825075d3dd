"""The day-one release, made from small stand-ins of BirdNET's files."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from click.testing import CliRunner

from soundscape.errors import Invalid
from soundscape.release import WEEKS, load_release
from soundscape.settings import get_settings
from trainer.members import birdnet
from trainer.members.birdnet_species import SOUNDS, SPEECH, read_species
from trainer.releases.command import release

# In the order of the model's outputs; the labels sort otherwise.
SPECIES = (
    ("Zonotrichia capensis", "Rufous-collared Sparrow", "Chingolo Común", "rucspa1"),
    ("Acris crepitans", "Northern Cricket Frog", "Northern Cricket Frog", "t-11145339"),
    ("Human vocal", "Human vocal", "Human vocal", "humvoc"),
    ("Apteryx mantelli", "North Island Brown Kiwi", "Kiwi Norteño", "nibkiw1"),
    ("Nova incognita", "Unknown", "Desconocida", None),
)
SEEN = np.array([0.5, 0.0, 0.0, 0.0, 0.015], np.float32)


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder like set-up's; `occurrence` gives SEEN in every week but the last, in which nothing is seen."""
    folder = tmp_path / "birdnet"
    folder.mkdir()
    (folder / "model.tflite").write_bytes(b"a model")
    (folder / "place_and_week.tflite").write_bytes(b"another")
    (folder / "labels_en.txt").write_text("".join(f"{one[0]}_{one[1]}\n" for one in SPECIES), encoding="utf-8")
    (folder / "labels_es.txt").write_text("".join(f"{one[0]}_{one[2]}\n" for one in SPECIES), encoding="utf-8")
    codes = {f"{one[0]}_{one[1]}": one[3] for one in SPECIES if one[3]}
    (folder / "ebird_codes.json").write_text(json.dumps(codes), encoding="utf-8")
    monkeypatch.setenv("SOUNDSCAPE_BIRDNET_DIR", str(folder))
    monkeypatch.setenv("SOUNDSCAPE_DATA_DIR", str(tmp_path / "var"))

    def occurrence(folder: Path, place: birdnet.Place) -> npt.NDArray[np.float32]:
        seen = np.tile(SEEN, (WEEKS, 1))
        seen[-1] = 0.0
        return seen

    monkeypatch.setattr(birdnet, "occurrence", occurrence)
    get_settings.cache_clear()
    yield folder
    get_settings.cache_clear()


def test_species_have_codes_names_and_classes(files: Path) -> None:
    read = read_species(files)
    assert [one.label for one in read] == ["rucspa1", "t-11145339", "humvoc", "nibkiw1", "Nova incognita"]
    assert [one.taxon for one in read] == ["Aves", "Amphibia", "Other", "Aves", "Other"]
    assert [one.es for one in read] == ["Chingolo Común", "Acris crepitans", "Voz humana", "Kiwi Norteño", "Desconocida"]


def test_lists_of_different_species_are_refused(files: Path) -> None:
    (files / "labels_es.txt").write_text("Zonotrichia capensis_Chingolo Común\n", encoding="utf-8")
    with pytest.raises(Invalid, match="differ in their species"):
        read_species(files)


def test_model_outputs_keep_their_order_and_find_their_columns(files: Path) -> None:
    loaded = birdnet.add_birdnet("el-silencio", birdnet.Place(6.76, -74.21))
    member = loaded.release.members[0]
    assert member.labels == tuple(one.label for one in read_species(files))
    assert loaded.label_names == tuple(sorted(member.labels)) != member.labels
    assert [loaded.label_names[column] for column in loaded.columns["birdnet"]] == list(member.labels)
    assert (loaded.folder / member.file).read_bytes() == b"a model"
    assert member.noncommercial
    assert loaded.release.licences == (birdnet.LICENCE,)
    assert set(loaded.thresholds) == {np.float32(birdnet.THRESHOLD)}


def test_the_prior_lowers_what_is_not_expected_and_hides_nothing(files: Path) -> None:
    loaded = birdnet.add_birdnet("el-silencio", birdnet.Place(6.76, -74.21))
    prior = loaded.prior
    assert prior is not None
    weight = dict(zip(loaded.label_names, prior[0].tolist(), strict=True))
    halfway = birdnet.FLOOR + (1 - birdnet.FLOOR) * 0.5
    assert weight == pytest.approx(
        {"rucspa1": 1.0, "humvoc": 1.0, "t-11145339": birdnet.FLOOR, "nibkiw1": birdnet.FLOOR, "Nova incognita": halfway}
    )
    last = dict(zip(loaded.label_names, prior[-1].tolist(), strict=True))
    assert last["rucspa1"] == pytest.approx(birdnet.FLOOR), "weeks are not mixed up"
    assert prior.min() > birdnet.THRESHOLD, "a call heard clearly enough is named wherever it is"


def test_a_voice_is_told_wherever_it_is(files: Path) -> None:
    """Its labels are in the release and in the member that hears them, and no place or week lowers them."""
    loaded = birdnet.add_birdnet("el-silencio", birdnet.Place(6.76, -74.21))
    assert loaded.release.sound_events == {"speech": ("humvoc",)}, "of the labels for people, those that the lists know"
    assert loaded.prior is not None and set(SPEECH) <= SOUNDS.keys()
    assert (loaded.prior[:, loaded.label_names.index("humvoc")] == 1.0).all()
    (files / "ebird_codes.json").write_text("{}")
    assert birdnet.add_birdnet("mute", None).release.sound_events == {}, "who cannot tell speech does not say it can"


def test_without_a_place_there_is_no_prior(files: Path) -> None:
    place = birdnet.place_of("elsewhere", None, None)
    loaded = birdnet.add_birdnet("elsewhere", place)
    assert (place, loaded.prior) == (None, None)
    assert not (loaded.folder / birdnet.PRIOR).exists()


def test_the_reserve_has_its_place_and_half_a_place_is_refused() -> None:
    assert birdnet.place_of("el-silencio", None, None) == birdnet.PLACES["el-silencio"]
    assert birdnet.place_of("el-silencio", 1.0, 2.0) == birdnet.Place(1.0, 2.0)
    with pytest.raises(Invalid, match="--lat and --lon"):
        birdnet.place_of("el-silencio", 1.0, None)
    with pytest.raises(Invalid, match="is no place"):
        birdnet.place_of("el-silencio", 91.0, 0.0)


def test_adding_it_again_leaves_the_deployed_release_alone(files: Path) -> None:
    place = birdnet.Place(6.76, -74.21)
    first = birdnet.add_birdnet("el-silencio", place)
    assert birdnet.add_birdnet("el-silencio", place).digest == first.digest
    with pytest.raises(Invalid, match="--replace"):
        birdnet.add_birdnet("el-silencio", None)
    assert load_release(first.folder, first.digest).prior is not None
    assert birdnet.add_birdnet("el-silencio", None, replace=True).prior is None
    assert [path.name for path in first.folder.parent.iterdir()] == ["birdnet-el-silencio"], "nothing half-made stays"


def test_files_that_were_not_fetched_are_named_with_the_cure(files: Path) -> None:
    (files / "model.tflite").unlink()
    with pytest.raises(Invalid, match=r"model\.tflite.*make setup"):
        birdnet.add_birdnet("el-silencio", None)


def test_a_site_that_cannot_be_a_folder_is_refused(files: Path) -> None:
    with pytest.raises(Invalid, match="cannot be called"):
        birdnet.add_birdnet("../elsewhere", None)


def test_commands_print_the_licence_and_end_with_the_name(files: Path) -> None:
    runner = CliRunner()
    empty = runner.invoke(release, ["list"])
    added = runner.invoke(release, ["add", "birdnet", "--site", "reserve", "--lat", "6.76", "--lon", "-74.21"])
    assert "no release yet" in empty.output
    assert birdnet.LICENCE in added.output
    assert added.output.splitlines()[-1] == "birdnet-reserve"
    listed = runner.invoke(release, ["list"]).output
    assert "birdnet-reserve" in listed
    assert str(len(SPECIES)) in listed
    shown = runner.invoke(release, ["show", "birdnet-reserve"]).output
    assert "no commercial use" in shown
    assert birdnet.FEATURES.fingerprint in shown
