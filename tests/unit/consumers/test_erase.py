"""A voice erased: whatever was made of its clip goes, wherever it lies, and nothing else does."""

from __future__ import annotations

from pathlib import Path
from uuid import UUID

import pytest

from consumers.labeler.erase import erase
from soundscape.derived import derived_folders, note_folder
from soundscape.errors import Invalid, Unavailable
from soundscape.release import file_digest
from soundscape.settings import Settings
from trainer.data import store
from trainer.data.prepare import prepare
from trainer.evaluation.material import Sound
from trainer.evaluation.rivalry import _item
from trainer.replay.dataset import make_dataset
from trainer.replay.run import Progress, Request
from trainer.testing import write_folder

CLIP, OTHER = str(UUID(int=7)), str(UUID(int=8))


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """A data folder of this test's own."""
    return Settings(data_dir=tmp_path / "var")


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A folder outside the data folder that holds a piece of either clip to learn from."""
    folder = write_folder(tmp_path / "elsewhere" / "new", clips=4, seconds=1.0, minutes=0)
    for n, clip in enumerate((CLIP, OTHER)):
        (folder / "train_audio" / "10" / f"XC{1000 + n}.ogg").rename(folder / "train_audio" / "10" / f"{clip}_0.ogg")
        table = folder / "train.csv"
        table.write_text(table.read_text(encoding="utf-8").replace(f"XC{1000 + n}", f"{clip}_0"), encoding="utf-8")
    return folder


def made(path: Path, text: str = "") -> Path:
    """A file that something was written to."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def judged(prepared: store.Prepared, sound: Path) -> Path:
    """Where a sound that was judged lies beside prepared data."""
    item = _item(prepared, Sound(sound, sound.name, "soundscapes", sound.stem, "REC/day", "REC", file_digest(sound)))
    return prepared.folder / item.file


def test_what_is_named_by_the_sounds_digest_goes_with_it(settings: Settings, source: Path) -> None:
    note_folder(settings, source)
    prepared, _ = prepare(source, settings.root / "datasets", lambda _: None, children=0)
    by_clip = {clip: next(item for item in prepared.items if clip in item.name) for clip in (CLIP, OTHER)}
    held_out = source / "evaluation" / "train_soundscapes"
    held_out.mkdir(parents=True)
    for n, clip in enumerate((CLIP, OTHER)):
        sound = source / "train_audio" / "2" / f"XC{2000 + n}.ogg"
        (held_out / f"{clip}_5.ogg").write_bytes(sound.read_bytes() + b"\0")  # a sound that nothing was learnt from
    theirs, others = (judged(prepared, held_out / f"{clip}_5.ogg") for clip in (CLIP, OTHER))
    home = prepared.folder / "processed" / "embeddings-0123"
    heard = {clip: made(home / f"{item.digest}.npy") for clip, item in by_clip.items()}
    composed = made(home / "scenes-train-0123-0000.npz")
    taught = made(prepared.folder / "processed" / "taught-0123-4567" / "00000.npz")
    cut_off = made(home / ".scenes-train-0123-0001.npz.99.part")

    gone = set(erase(settings, CLIP))

    assert theirs.parent.name == "judged" and {theirs, heard[CLIP], composed, taught, cut_off} <= gone
    assert not any(path.exists() for path in (theirs, heard[CLIP], composed, taught, cut_off, prepared.folder / by_clip[CLIP].file))
    assert others.is_file() and heard[OTHER].is_file() and (prepared.folder / by_clip[OTHER].file).is_file()
    assert not list(source.rglob(f"*{CLIP}*")) and len(list(source.rglob(f"*{OTHER}*"))) == 2
    left = store.load(prepared.folder)
    assert {item.name for item in prepared.items} - {item.name for item in left.items} == {by_clip[CLIP].name}
    assert all((prepared.folder / item.file).is_file() for item in left.items)
    assert erase(settings, CLIP) == []


@pytest.mark.parametrize("body", ['{"items": [', "{}", "[]", '{"items": [1]}'])
def test_a_list_that_cannot_be_read_keeps_nothing_else(settings: Settings, source: Path, body: str) -> None:
    """It is named in the end, as a file that could not be removed would be."""
    note_folder(settings, source)
    broken = made(settings.root / "datasets" / "a-broken" / "dataset.json", body)
    (broken.parent / "processed").mkdir()
    prepared, _ = prepare(source, settings.root / "datasets", lambda _: None, children=0)
    with pytest.raises(OSError, match="a-broken"):
        erase(settings, CLIP)
    assert not list(source.rglob(f"*{CLIP}*")) and not any(CLIP in item.name for item in store.load(prepared.folder).items)


def test_what_a_cut_off_erasure_left_is_found_by_the_list_of_the_data(settings: Settings, source: Path) -> None:
    prepared, _ = prepare(source, settings.root / "datasets", lambda _: None, children=0)
    item = next(item for item in prepared.items if CLIP in item.name)
    (prepared.folder / item.file).unlink()
    heard = made(prepared.folder / "processed" / "embeddings-0123" / f"{item.digest}.npy")
    assert erase(settings, CLIP) == [heard]


def test_an_evaluations_page_that_names_the_clip_goes_whole(settings: Settings, caplog: pytest.LogCaptureFixture) -> None:
    page = made(settings.root / "evaluations" / "r-1" / "report.html", f"<small>{CLIP}_0_5</small>")
    copy = made(settings.root / "mlflow" / "artifacts" / "1" / "a" / "artifacts" / "evaluation" / "report.html", f"in {CLIP}_0_5")
    kept = made(settings.root / "evaluations" / "r-2" / "report.html", f"<small>{OTHER}_0_5</small>")
    numbers = made(settings.root / "evaluations" / "r-1" / "report.json", "{}")
    assert erase(settings, CLIP) == [page, copy]
    assert kept.is_file() and numbers.is_file()
    assert str(page) in caplog.text and str(copy) in caplog.text


def test_folders_that_were_written_outside_are_remembered(settings: Settings, tmp_path: Path) -> None:
    exported = made(tmp_path / "marks" / f"{CLIP}.txt")
    strange = made(tmp_path / "not noted" / f"{CLIP}.txt")
    for folder in (exported.parent, exported.parent, settings.root / "datasets" / "d", tmp_path / "gone"):
        note_folder(settings, folder)
    assert [one for one in derived_folders(settings) if not one.is_relative_to(settings.root)] == [exported.parent]
    assert erase(settings, CLIP) == [exported]
    assert strange.is_file()


def test_a_folder_is_remembered_by_where_it_really_lies(settings: Settings, tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (settings.root / "datasets").mkdir(parents=True)
    (settings.root / "datasets" / "link").symlink_to(tmp_path / "disk")
    folders = [settings.root / "datasets" / ".." / ".." / "dots", settings.root / "datasets" / "link" / "new", tmp_path / "a\u2028b"]
    sounds = [made(folder / f"{CLIP}.ogg") for folder in folders]
    for folder in folders:
        note_folder(settings, folder)
    erase(settings, CLIP)
    assert not any(sound.exists() for sound in sounds)
    with pytest.raises(Invalid, match="line break"):
        note_folder(settings, tmp_path / "a\nb")


def test_a_replay_notes_its_folder_before_it_writes_there(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(_: Settings) -> None:
        raise Unavailable("The broker did not answer.")

    monkeypatch.setattr("trainer.replay.run.new_consumer", away)
    with pytest.raises(Unavailable):
        make_dataset(settings, Request(), tmp_path / "new", Progress())
    (tmp_path / "new").mkdir(exist_ok=True)
    assert tmp_path / "new" in derived_folders(settings)
