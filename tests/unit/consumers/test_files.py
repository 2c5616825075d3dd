"""Which answer of a watched file stands, and what its CSV holds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from consumers.files import Said, replaces, rows
from soundscape.audio import sha256
from soundscape.events import ClipAnalysed, Window
from soundscape.features import LOG_MEL
from soundscape.release import Member, Release, write_release
from soundscape.taxonomy import Species
from soundscape.wire import decode

REFUSED, PREDICTED = Said("a", False, 1.0), Said("a", True, 1.0)
LATER, LATER_REFUSED = Said("b", True, 2.0), Said("b", False, 2.0)


@pytest.mark.parametrize(("standing", "other"), [(PREDICTED, REFUSED), (LATER, PREDICTED), (LATER_REFUSED, PREDICTED), (LATER, REFUSED)])
def test_the_same_answer_stands_whichever_is_read_first(standing: Said, other: Said) -> None:
    assert replaces(standing, other)
    assert not replaces(other, standing)


def test_an_answer_said_again_replaces_itself() -> None:
    assert replaces(PREDICTED, PREDICTED)
    assert replaces(REFUSED, None)


def _event(writer: Any, **fields: Any) -> ClipAnalysed:
    record = writer.answer("one", file_name="REC_20260301_000000.ogg", **fields)
    return decode(ClipAnalysed, record.headers, record.value)


def test_a_row_every_five_seconds_and_a_column_a_species(writer: Any, tmp_path: Path) -> None:
    assert rows(_event(writer), tmp_path).decode().splitlines() == [
        "row_id,frog,owl",
        "REC_20260301_000000_5,0.25,0.5",
        "REC_20260301_000000_10,0,1",
    ]


def test_a_last_window_that_the_sound_does_not_fill_ends_with_its_five_seconds(writer: Any, tmp_path: Path) -> None:
    event = _event(writer, windows=(Window(start_s=0, end_s=2.5, scores=(0.1, 0.2)),))
    assert rows(event, tmp_path).decode().splitlines()[1] == "REC_20260301_000000_5,0.1,0.2"


def test_scores_below_the_floor_are_columns_of_zeros(writer: Any, tmp_path: Path) -> None:
    labels = ("bat", "frog", "owl")
    folder = tmp_path / "r1"
    folder.mkdir()
    (folder / "m.onnx").write_bytes(b"model")
    member = Member(
        name="m", file="m.onnx", digest=sha256(b"model"), feature_fingerprint=LOG_MEL.fingerprint, labels=labels, licence="MIT"
    )
    species = tuple(Species(label=one, scientific=one, en=one, es=one, taxon="Aves") for one in labels)
    release = Release(name="r1", labels=species, features={LOG_MEL.fingerprint: LOG_MEL}, members=(member,), created_at="now")
    digest = write_release(folder, release).digest
    lines = rows(_event(writer, score_floor=0.001, release_digest=digest), tmp_path).decode().splitlines()
    assert lines[:2] == ["row_id,bat,frog,owl", "REC_20260301_000000_5,0,0.25,0.5"]


def test_a_release_that_is_gone_leaves_the_labels_of_the_answer(writer: Any, tmp_path: Path) -> None:
    assert rows(_event(writer, score_floor=0.001), tmp_path).decode().startswith("row_id,frog,owl\n")
