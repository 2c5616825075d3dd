"""Where a row goes, what the loader reads of it, and what its digest is made of."""

from __future__ import annotations

import csv
import json
from dataclasses import asdict, replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest

from soundscape.holdout import held_out
from soundscape.taxonomy import Species
from trainer.data.catalog import read_catalog
from trainer.replay.judged import Piece
from trainer.replay.log_dataset import Entry, Heard, counts, digest_of, entry_of, is_safe, load_entry, write_tables

SPECIES = {one: Species(label=one, scientific=f"S {one}", en=f"E {one}", es=f"Ñ {one}", taxon="Aves") for one in ("60", "frog", "owl")}
DAYS = [date(2026, 3, 1) + timedelta(days=n) for n in range(60)]
TAUGHT, KEPT = (next(day for day in DAYS if held_out("REC", day) is kept) for kept in (False, True))
OWL = Piece(5.0, 10.0, ("owl", "frog"), "agreed")


def heard(day: date = TAUGHT, clip_id: str = "c1") -> Heard:
    """A clip of that day."""
    return Heard(clip_id, "s", "REC", day, datetime(day.year, day.month, day.day, 6, tzinfo=UTC), 6.76, -74.21)


def made(piece: Piece = OWL, day: date = TAUGHT, clip_id: str = "c1", seconds: float = 5.0) -> Entry:
    """The entry of a piece that may be used."""
    entry = entry_of(piece, heard(day, clip_id), seconds)
    assert entry is not None
    return entry


@pytest.mark.parametrize(
    ("piece", "day", "kind"),
    [
        (OWL, TAUGHT, "train"),
        (OWL, KEPT, "evaluation"),
        (Piece(0.0, 5.0, (), "expert"), TAUGHT, "background"),
        (Piece(0.0, 5.0, (), "expert"), KEPT, "evaluation"),
        (Piece(0.0, None, ("owl",), "guide"), TAUGHT, "train"),
        (Piece(0.0, None, ("owl",), "guide"), KEPT, None),
        (Piece(0.0, 5.0, ("owl",), "pseudo"), KEPT, None),
    ],
)
def test_a_held_out_day_judges_and_never_teaches(piece: Piece, day: date, kind: str | None) -> None:
    """By labelers' words alone: guides and models do not judge."""
    found = entry_of(piece, heard(day), 5.0)
    assert (found.kind if found else None) == kind


def test_the_loader_reads_what_was_written(tmp_path: Path) -> None:
    """Both folders are in the layout; the taxonomy lists the champion's species whether a row names them or not."""
    entries = [
        made(),
        made(Piece(0.0, 5.0, (), "expert"), clip_id="c2"),
        made(OWL, KEPT, "c3"),
        made(Piece(0.0, 12.0, (), "agreed"), KEPT, "c4", 12.0),
    ]
    write_tables(tmp_path, entries, SPECIES, ["60", "frog", "owl"])
    for entry in entries:
        (tmp_path / entry.file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / entry.file).write_bytes(b"OggS")
    catalog, judged = read_catalog(tmp_path), read_catalog(tmp_path / "evaluation")
    assert catalog.labels == judged.labels == ("60", "frog", "owl")
    assert [(clip.filename, clip.labels) for clip in catalog.clips] == [("owl/c1_5.ogg", ("owl", "frog"))]
    assert (tmp_path / "train_audio" / catalog.clips[0].filename).is_file()
    assert (catalog.unlabelled, catalog.labelled, catalog.rows) == (("c2_0.ogg",), (), ())
    assert judged.clips == () and judged.labelled == ("c3_5.ogg", "c4_0.ogg")
    assert {row.row_id: row.labels for row in judged.rows} == {
        "c3_5_5": ("owl", "frog"), "c4_0_5": (), "c4_0_10": (), "c4_0_15": (),
    }  # fmt: skip
    with (tmp_path / "train.csv").open(newline="", encoding="utf-8") as file:
        (row,) = csv.DictReader(file)
    assert (row["provenance"], float(row["weight"]), row["clip_id"], row["start_s"], row["stream"], row["day"]) == (
        "agreed", 1.0, "c1", "5.0", "REC", TAUGHT.isoformat(),
    )  # fmt: skip
    assert row["recorded_at"].startswith(TAUGHT.isoformat()) and row["scientific_name"] == "S owl"
    assert counts(entries) == {"train": {"agreed": 1}, "background": {"expert": 1}, "evaluation": {"agreed": 2}}


def test_an_empty_dataset_has_its_tables(tmp_path: Path) -> None:
    write_tables(tmp_path, [], SPECIES, ["owl", "frog"])
    assert read_catalog(tmp_path).clips == () and read_catalog(tmp_path / "evaluation").rows == ()


def test_the_digest_is_of_the_content_whatever_its_order() -> None:
    """Where the sound was cut from does not count; who, when, what and how sure does."""
    one, two = made(), made(clip_id="c2")
    assert digest_of([one, two]) == digest_of([two, one, two]) == digest_of([one, replace(two, source="sample", latitude=None)])
    others = [
        replace(two, labels=("owl",)), replace(two, provenance="expert"), replace(two, start_s=0.0), replace(two, clip_id="c3"),
        replace(two, kind="evaluation"), replace(two, day="2026-01-01"),
    ]  # fmt: skip
    assert len({digest_of([one, other]) for other in [two, *others]}) == 1 + len(others)


def test_an_entry_survives_the_journal() -> None:
    entry = made()
    assert load_entry(json.loads(json.dumps(asdict(entry)))) == entry


def test_a_label_that_is_no_folder_name_is_not_safe() -> None:
    safe = ("owl", "60", "Ñandú 2")
    assert [label for label in (*safe, "../owl", "a/b", "", "..", ".", "a\0") if is_safe(label)] == list(safe)
