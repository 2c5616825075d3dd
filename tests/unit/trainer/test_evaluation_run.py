"""A release heard on a set: rows, slices, strain and the page, by a model with known numbers."""

from __future__ import annotations

import csv
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from soundscape.audio import SAMPLE_RATE, encode_ogg
from soundscape.errors import Invalid
from soundscape.release import LoadedRelease
from soundscape.taxonomy import Species
from soundscape.testing import ogg, tone, tone_release
from trainer.evaluation import strain
from trainer.evaluation.beds import BED_RMS, BEDS
from trainer.evaluation.hear import Ears
from trainer.evaluation.material import Sound, read_material
from trainer.evaluation.report import html_of
from trainer.evaluation.rows import Answers, Rows, columns, hear_set
from trainer.evaluation.run import evaluate_release
from trainer.evaluation.slices import measure, slices
from trainer.evaluation.worst import worst_errors

PITCH = {"low": 500.0, "mid": 2000.0, "top": 8000.0}
TAXA = {"low": "Amphibia", "mid": "Insecta", "top": "Aves", "unheard": "Mammalia"}
SPECIES = tuple(Species(label=label, scientific=f"Tonus {label}", en=label, es=label, taxon=taxon) for label, taxon in TAXA.items())


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> LoadedRelease:
    return tone_release(tmp_path_factory.mktemp("tones"), "tones")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two soundscapes of the three tones and silence, the second one with a wrong truth; a clip of each tone."""
    folder = tmp_path_factory.mktemp("data")
    _table(folder / "taxonomy.csv", ["primary_label", "scientific_name", "common_name", "class_name"],
           [[one.label, one.scientific, one.en, one.taxon] for one in SPECIES])  # fmt: skip
    clips = [(label, f"{label}/{kind}{n}{number}.ogg") for number, label in enumerate(PITCH) for n, kind in enumerate(["XC", "iNat"] * 4)]
    for label, name in clips:
        path = folder / "train_audio" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(ogg(2.0, PITCH[label] + len(name) + hash_of(name)))
    _table(folder / "train.csv", ["primary_label", "filename"], [[label, name] for label, name in clips])
    (folder / "train_soundscapes").mkdir()
    truth = []
    for stem, last in (("SP_20260101_120000", ""), ("SP_20260102_220000", "unheard")):
        parts = [*(tone(5.0, hertz) for hertz in PITCH.values()), np.zeros(5 * SAMPLE_RATE, np.float32)]
        (folder / "train_soundscapes" / f"{stem}.ogg").write_bytes(encode_ogg(np.concatenate(parts)))
        truth += [[f"{stem}_{5 * (n + 1)}", label] for n, label in enumerate([*PITCH, last])]
    _table(folder / "soundscape_labels.csv", ["row_id", "labels"], [*truth, ["SP_20260101_120000_95", "low"]])
    return folder


def hash_of(name: str) -> int:
    """A few hertz, other for each clip: no two are the same sound."""
    return sum(name.encode()) % 23


def _table(path: Path, header: list[str], rows: list[list[str]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([header, *rows])


def test_a_set_is_heard_as_a_worker_would_answer_it(loaded: LoadedRelease, data: Path) -> None:
    heard = hear_set(read_material(data), {"release": Ears(loaded)}, children=0)
    rows = heard.rows["soundscapes"]
    answers = rows.answers["release"]
    assert heard.material.labels == ("low", "mid", "top", "unheard") and heard.refused == []
    assert len(rows.truth) == 8, "a row beyond the end of its sound is none"
    np.testing.assert_array_equal(answers.named[:3], np.eye(3, 4, dtype=bool))
    assert not answers.named[3].any() and answers.scores[3].max() < 1e-3
    assert answers.lacks == ("unheard",) and rows.id_of(5) == "train_soundscapes/SP_20260102_220000.ogg@5"
    focal = heard.rows["focal"]
    assert (focal.answers["release"].scores.argmax(axis=1) == focal.truth.argmax(axis=1)).all() and len(focal.truth) == 3


def test_children_hear_the_same(loaded: LoadedRelease, data: Path) -> None:
    here, there = (hear_set(read_material(data), {"r": Ears(loaded)}, children=n).rows["soundscapes"] for n in (0, 1))
    np.testing.assert_array_equal(here.answers["r"].scores, there.answers["r"].scores)


def test_a_file_that_is_no_sound_is_named_and_a_set_of_nothing_else_refused(loaded: LoadedRelease, data: Path, tmp_path: Path) -> None:
    material = read_material(data)
    bad = tmp_path / "bad.ogg"
    bad.write_bytes(b"OggS" + bytes(200))
    broken = Sound(bad, "bad.ogg", "focal", "bad", "bad", "XC", "0" * 64, ("low",))
    one = type(material)(material.folder, material.species, (*material.sounds, broken), {})
    assert [name for name, _ in hear_set(one, {"r": Ears(loaded)}, children=0).refused] == ["bad.ogg"]
    with pytest.raises(Invalid, match="can be decoded"):
        hear_set(type(material)(material.folder, material.species, (broken,), {}), {"r": Ears(loaded)}, children=0)


def test_species_are_found_by_scientific_name_where_labels_differ(loaded: LoadedRelease) -> None:
    other = [one.model_copy(update={"label": f"x-{one.label}"}) for one in SPECIES]
    assert columns(loaded, other).tolist() == columns(loaded, SPECIES).tolist() == [0, 1, 2, -1]


def test_an_evaluation_is_plain_and_its_page_shows_the_worst_errors(loaded: LoadedRelease, data: Path, tmp_path: Path) -> None:
    said: list[str] = []
    result = evaluate_release(loaded, data, tmp_path, say=said.append, strain_windows=3, children=0)
    found = result.numbers["parts"]["soundscapes"]
    assert found["mean_ap"] == pytest.approx((3 + 1 / 8) / 4), "the species that it does not know ties with all rows"
    assert found["coverage"] == {"there": 4, "ever_named": 3, "named_but_nowhere": 0}
    assert found["top_1"] == pytest.approx(6 / 7) and result.numbers["labels_lacking"] == ("unheard",)
    assert list(found["rivals"]) == ["constant"] and "prepared" in " ".join(said)
    assert set(found["slices"]) >= {"taxon: Aves", "time: night", "time: day", "company: insect-dominant"}
    assert all(one["small"] for one in found["slices"].values())
    assert {name for name in result.numbers["parts"]["focal"]["slices"] if name.startswith("source")} <= {"source: XC", "source: iNat"}
    errors = worst_errors(result.heard, "release")
    assert [(one.what, one.label) for one in errors] == [("missed", "unheard")]
    assert errors[0].picture.startswith(b"\x89PNG") and errors[0].sound.startswith(b"OggS")
    page = html_of(result, errors)
    assert page.count("<audio") == 1 and "data:audio/ogg;base64," in page and "SP_20260102_220000" in page


def test_strain_is_made_at_the_strength_that_is_said() -> None:
    calls = [strain.Call(np.ones(SAMPLE_RATE, np.float32), (n,)) for n in range(3)]
    waves, truth = strain._composed(calls, 2, "rain", 6.0, 4, 3)
    assert truth.sum(axis=1).tolist() == [2, 2, 2, 2]
    bed = np.stack([BEDS["rain"](np.random.default_rng([n, 31])) for n in range(4)])
    assert np.sqrt(np.mean(bed**2, axis=1)) == pytest.approx(BED_RMS, rel=1e-4)
    alone, one = strain._composed(calls[:1], 1, "rain", 6.0, 1, 3)[0][0], bed[0]
    scale = np.dot(alone[-1000:], one[-1000:]) / np.dot(one[-1000:], one[-1000:])
    call = alone / scale - one
    assert np.median(call[np.abs(call) > BED_RMS]) == pytest.approx(BED_RMS * 10 ** (6 / 20), rel=1e-3)
    weaker, _ = strain._composed(calls, 2, "rain", -6.0, 4, 3)
    assert [wave.size for wave in weaker] == [wave.size for wave in waves]


def test_every_bed_is_another_noise() -> None:
    spectra = [np.abs(np.fft.rfft(make(np.random.default_rng(1))))[100:] for make in BEDS.values()]
    alike = np.corrcoef([np.log(np.add.reduceat(one, np.geomspace(1, len(one) - 1, 30).astype(int)) + 1e-9) for one in spectra])
    assert (alike[~np.eye(len(BEDS), dtype=bool)] < 0.99).all()


def _rows(truth: np.ndarray, snr: np.ndarray, hours: list[int]) -> Rows:
    sounds = tuple(
        Sound(Path("x"), f"s{n}.ogg", "soundscapes", f"s{n}", f"s{n}", "here" if n % 2 else "there", f"{n}",
              recorded_at=datetime(2026, 1, 1, hour, tzinfo=UTC))
        for n, hour in enumerate(hours)
    )  # fmt: skip
    n = np.arange(len(truth))
    nothing = Answers(np.zeros(truth.shape, np.float32), truth, ())
    return Rows("soundscapes", sounds, n, np.zeros_like(n), truth, snr.astype(np.float32), np.zeros(len(truth), np.float32), {"r": nothing})


def test_slices_hold_what_their_names_say() -> None:
    truth = np.array([[1, 0, 0, 0], [0, 1, 0, 0], [1, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 0], [1, 0, 0, 0]], bool)
    snr = np.where(truth, 12.0, np.nan)
    snr[0, 0] = 3.0
    rows = _rows(truth, snr, [18, 17, 5, 6, 0, 12])
    found = {f"{one.family}: {one.name}": one.cells for one in slices(rows, SPECIES, {"low": 30, "mid": 9, "top": 10})}
    assert "taxon: Mammalia" not in found, "a part without a positive is none"
    assert found["taxon: Insecta"].any(axis=0).tolist() == [False, True, False, False]
    assert found["species: rare (fewer than 10 clips)"].any(axis=0).tolist() == [False, True, False, True]
    assert np.flatnonzero(found["time: night"].any(axis=1)).tolist() == [0, 2, 4]
    weak = found["strength: weak calls (below 9 dB)"]
    assert (truth & weak).sum() == 1 and weak[~truth].all(), "weak calls stand among everything that is no call"
    assert np.flatnonzero(found["company: insect-dominant"].any(axis=1)).tolist() == [1, 2]
    assert np.flatnonzero(found["company: several at once"].any(axis=1)).tolist() == [2]
    assert np.flatnonzero(found["source: here"].any(axis=1)).tolist() == [1, 3, 5]
    assert "species" not in {one.family for one in slices(rows, SPECIES, {})}, "without clips to count nobody is rare"


def test_a_part_is_scored_on_its_own_cells_alone() -> None:
    truth = np.array([[1, 0, 0, 0], [0, 0, 0, 0], [1, 0, 0, 0], [0, 0, 0, 0]], bool)
    rows = _rows(truth, np.full(truth.shape, np.nan), [20, 20, 10, 10])
    scores = np.zeros(truth.shape, np.float32)
    scores[:, 0] = [0.9, 0.8, 0.1, 0.2]  # right at night, wrong by day
    parts = {one.name: measure(one, rows, scores) for one in slices(rows, SPECIES, {})}
    assert (parts["night"].mean_ap, parts["night"].auc) == (1.0, 1.0)
    assert (parts["day"].mean_ap, parts["day"].auc) == (0.5, 0.0)
    assert parts["day"].small and parts["day"].positives == 1
