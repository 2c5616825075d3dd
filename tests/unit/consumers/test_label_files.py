"""Labels as other programs' files: out and in again the same, and a file with a fault imports nothing."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid5

import pytest
from click.testing import CliRunner

from consumers import label_files
from consumers.label_files import Known, label_id_of, labels, plan
from consumers.label_formats import MAX_BYTES, RAVEN, READERS, Row, read_rows, write_files
from consumers.labeler.queue import wants_second
from consumers.labeler.shelf import Shelf
from consumers.labeler.species import SpeciesList
from soundscape.cli import main
from soundscape.derived import derived_folders
from soundscape.errors import Invalid
from soundscape.events import NAMESPACE, ClipLabelled
from soundscape.judgements import Settled, settle
from soundscape.settings import Settings
from soundscape.taxonomy import Species

NOW = datetime(2026, 3, 1, 6, tzinfo=UTC)
ONCE = [str(uuid5(NAMESPACE, str(n))) for n in range(99) if not wants_second(str(uuid5(NAMESPACE, str(n))))]
A, B = ONCE[:2]
"""Two clips that get one review."""
TWICE = next(str(uuid5(NAMESPACE, str(n))) for n in range(99) if wants_second(str(uuid5(NAMESPACE, str(n)))))
SPECIES = SpeciesList(
    Species(label=label, scientific=scientific, en=en, es=es, taxon="Aves")
    for label, scientific, en, es in (
        ("tinamu", "Nothocercus bonapartei", "Highland Tinamou", "Tinamú serrano"),
        ("pava", "Penelope montagnii", "Andean Guan", "Pava andina"),
    )
)
KINDS = sorted(READERS)


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """A data folder of this test's own, which the commands use."""
    mine = Settings(data_dir=tmp_path / "var")
    monkeypatch.setattr(label_files, "get_settings", lambda: mine)
    return mine


def species_of(site: str) -> SpeciesList:
    """The one site's."""
    assert site == "s"
    return SPECIES


def known(windows: int = 4) -> dict[str, Known]:
    """Clips of 20 seconds unless told."""
    spans = tuple((5.0 * n, 5.0 * n + 5) for n in range(windows))
    return {clip: Known("s", "REC", None, spans) for clip in (A, B, TWICE)}


def planned(rows: list[Row], shelf: Shelf | None = None, by: str = "ana") -> list[ClipLabelled]:
    """What the rows become."""
    return plan(rows, by, "import:raven:file.txt", known(), shelf or Shelf(), species_of, NOW)


def row(said: str, start: float = 0.0, end: float = 5.0, clip: str = A, line: int = 2) -> Row:
    """A marked stretch."""
    return Row(f"line {line}", clip, start, end, said)


def settled(clip: str, start: float, verdict: Any, *names: str) -> Settled:
    """A settled window."""
    return Settled(clip, start, start + 5, verdict, frozenset(names), "expert", "random", ("ana",))


WINDOWS = [
    settled(A, 0.0, "species", "tinamu", "pava"),
    settled(A, 5.0, "nothing"),
    settled(A, 15.0, "unknown"),
    settled(B, 10.0, "species", "pava"),
]


@pytest.mark.parametrize("kind", KINDS)
def test_what_goes_out_comes_in_the_same(kind: str, tmp_path: Path) -> None:
    out = tmp_path / "labels"
    assert write_files(kind, WINDOWS, out) == len(WINDOWS)
    events = planned(read_rows(kind, out))
    found = settle(events)
    assert {(one.clip_id, one.start_s, one.end_s, one.verdict, one.labels) for one in found.values()} == {
        (one.clip_id, one.start_s, one.end_s, one.verdict, one.labels) for one in WINDOWS
    }
    assert {(one.by, one.provenance, one.review, one.stream) for one in events} == {("ana", "import:raven:file.txt", 1, "REC")}


def test_a_selection_table_has_ravens_columns(tmp_path: Path) -> None:
    write_files("raven", WINDOWS, tmp_path / "t.txt")
    lines = [line.split("\t") for line in (tmp_path / "t.txt").read_text().splitlines()]
    assert tuple(lines[0]) == RAVEN
    assert lines[1] == ["1", "Spectrogram 1", "1", "0.000", "5.000", "20.0", "16000.0", *lines[1][7:]]
    assert {tuple(line[7:]) for line in lines[1:]} >= {("tinamu", A), ("pava", A), ("nothing", A), ("pava", B)}


def test_ravens_own_table_is_read(tmp_path: Path) -> None:
    table = tmp_path / "t.txt"
    head = ["Selection", "View", "Begin Time (s)", "End Time (s)", "File Offset (s)", "Species", "Begin File"]
    rows = [
        ["1", "Waveform 1", "62.0", "63.5", "2.0", "Highland Tinamou", f"{A}.ogg"],
        ["1", "Spectrogram 1", "62.0", "63.5", "2.0", "Highland Tinamou", f"C:\\forest\\{A.upper()}.ogg"],
    ]
    table.write_text("\n".join("\t".join(one) for one in [head, *rows]))
    assert [(one.clip_id, one.start_s, one.end_s) for one in read_rows("raven", table)] == [(A, 2.0, 3.5)]
    (event,) = planned(read_rows("raven", table))
    assert (event.start_s, event.labels) == (0.0, ("tinamu",))


def test_audacity_has_a_file_a_clip_and_its_frequency_lines_are_passed_over(tmp_path: Path) -> None:
    write_files("audacity", WINDOWS, tmp_path / "out")
    assert {path.name for path in (tmp_path / "out").iterdir()} == {f"{A}.txt", f"{B}.txt"}
    assert "5.000000\t10.000000\tnothing\n" in (tmp_path / "out" / f"{A}.txt").read_text()
    one = tmp_path / f"{A}.txt"
    one.write_text("1.0\t2.0\tpava\n\\\t500.0\t900.0\n")
    assert [(mark.start_s, mark.said, mark.where) for mark in read_rows("audacity", one)] == [(1.0, "pava", f"{A}.txt line 1")]


def test_a_label_studio_export_is_read_and_cancelled_annotations_are_not(tmp_path: Path) -> None:
    def region(said: str, start: float) -> dict[str, Any]:
        return {"type": "labels", "value": {"start": start, "end": start + 1, "labels": [said]}, "original_length": 20.0}

    choice = {"type": "choices", "value": {"choices": ["good"]}}
    task = {
        "data": {"audio": f"/data/upload/1/0b1c2d3e-{A}.ogg"},
        "annotations": [{"result": [region("pava", 6.0), choice]}, {"was_cancelled": True, "result": [region("tinamu", 0.0)]}],
    }
    (tmp_path / "t.json").write_text(json.dumps([task]))
    (one,) = read_rows("label-studio", tmp_path / "t.json")
    assert (one.clip_id, one.start_s, one.said, one.where) == (A, 6.0, "pava", "task 1, region 1")


@pytest.mark.parametrize(
    "start, end, windows",
    [(0, 5, [0]), (4.9, 9, [5]), (4, 6, [0, 5]), (4.9, 5.1, [0, 5]), (3, 17, [0, 5, 10, 15]), (9.95, 10.0, [5]), (19.9, 25, [])],
)
def test_a_row_means_the_windows_that_it_lies_in_by_more_than_its_edge(start: float, end: float, windows: list[float]) -> None:
    if not windows:
        with pytest.raises(Invalid, match=r"line 2: 19\.9 to 25 s lies outside"):
            planned([row("pava", start, end)])
        return
    assert [one.start_s for one in planned([row("pava", start, end)])] == windows


def test_rows_of_one_window_are_one_label_and_any_name_of_a_species_will_do() -> None:
    (event,) = planned([row("TINAMU SERRANO", 0, 2), row("Penelope montagnii", 1, 3), row("pava", 3, 5)])
    assert (event.verdict, event.labels) == ("species", ("pava", "tinamu"))
    assert event.label_id == label_id_of("ana", A, 0.0)


@pytest.mark.parametrize(
    "rows, words",
    [
        ([row("dodo", line=7)], ["line 7", "'dodo'", "site s"]),
        ([row("pava", clip=str(uuid5(NAMESPACE, "stranger")), line=3)], ["line 3", "not known"]),
        ([row("nothing", 0, 5, line=2), row("pava", 1, 3, line=9)], ["line 2 and line 9", "contradict"]),
        ([row("nothing", line=2), row("unknown", line=3)], ["line 2 and line 3", "contradict"]),
        ([row("dodo", line=n) for n in range(2, 22)], ["line 2", "line 6", "and 15 more"]),
    ],
)
def test_a_fault_refuses_all_of_the_file_in_one_sentence_with_its_lines(rows: list[Row], words: list[str]) -> None:
    with pytest.raises(Invalid) as refused:
        planned([row("pava", clip=B, line=99), *rows])
    assert refused.value.detail.startswith("Nothing was imported: ")
    assert refused.value.detail.count(".") <= 2
    for word in words:
        assert word in refused.value.detail


def shelf_of(*events: ClipLabelled) -> Shelf:
    """A shelf with these labels."""
    shelf = Shelf()
    for offset, event in enumerate(events):
        shelf.labelled(event, offset)
    return shelf


def test_what_others_have_settled_and_what_was_deleted_is_refused() -> None:
    first = planned([row("pava")], by="ben")
    with pytest.raises(Invalid, match=r"line 4: .* settled already by ben"):
        planned([row("pava", line=4)], shelf_of(*first))
    with pytest.raises(Invalid, match=r"line 4: .* was deleted"):
        planned([row("pava", line=4)], shelf_of(*planned([row("speech")], by="ben")))


def test_an_import_may_be_a_second_review() -> None:
    first = planned([row("pava", clip=TWICE)], by="ben")
    (second,) = planned([row("nothing", clip=TWICE)], shelf_of(*first))
    assert second.review == 2


def test_the_same_file_again_says_nothing_and_a_mended_one_changes_its_labels() -> None:
    shelf = shelf_of(*planned([row("pava"), row("nothing", 5, 10)]))
    assert planned([row("pava"), row("nothing", 5, 10)], shelf) == []
    (changed,) = planned([row("tinamu"), row("nothing", 5, 10)], shelf)
    shelf.labelled(changed, 9)
    assert settle(shelf.labels())[A, 0.0].labels == {"tinamu"}


COLUMNS = "clip_id,start_s,end_s,verdict,labels\n"
BAD: dict[str, list[str]] = {
    "raven": ["", "Begin Time (s)\tEnd Time (s)\n1\t2", "\t".join(RAVEN) + f"\n1\tS\t1\t5\t4\t0\t1\tpava\t{A}"],
    "audacity": ["1.0 2.0 pava", "1.0\tx\tpava", "2.0\t1.0\tpava", "nan\t1.0\tpava", "1.0\tinf\tpava", "1.0\t2.0\t "],
    "label-studio": ["", "{}x", '[{"data": 3}]', '{"a": 1}', "[" * 5000, '[{"data": {}, "annotations": [{"result": [{}]}]}, 3]'],
    "csv": ["", "clip_id,start_s\n", f"{COLUMNS}{A},0,5,species,\n", f"{COLUMNS}x,0,5,,pava", f'{COLUMNS}{A},0,5,species,"pa'],
}


@pytest.mark.parametrize("kind, text", [(kind, text) for kind, texts in BAD.items() for text in texts])
def test_what_is_no_such_file_is_refused_in_one_sentence(kind: str, text: str, tmp_path: Path) -> None:
    path = tmp_path / f"{A}.txt"
    path.write_text(text)
    with pytest.raises(Invalid, match="nothing was imported"):
        read_rows(kind, path)


@pytest.mark.parametrize("kind", KINDS)
def test_bytes_that_are_no_text_and_files_without_end_are_refused(kind: str, tmp_path: Path) -> None:
    path = tmp_path / f"{A}.txt"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(Invalid, match="UTF-8"):
        read_rows(kind, path)
    with path.open("wb") as file:
        file.truncate(MAX_BYTES + 1)
    with pytest.raises(Invalid, match="in parts"):
        read_rows(kind, path)


class Produced:
    """What the import command published."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, shelf: Shelf) -> None:
        self.said: list[ClipLabelled] = []

        class Species_:
            of: Callable[[str], SpeciesList] = staticmethod(species_of)

            def __init__(self, settings: object) -> None:
                """Nothing to read."""

            def refresh(self) -> None:
                """Nothing is new."""

        monkeypatch.setattr(label_files, "read_shelf", lambda settings: shelf)
        monkeypatch.setattr(label_files, "known_clips", lambda settings, wanted, shelf, site: known() if site in (None, "s") else {})
        monkeypatch.setattr(label_files, "SiteSpecies", Species_)
        monkeypatch.setattr(label_files, "new_producer", lambda settings: None)
        monkeypatch.setattr(label_files, "abandon", lambda producer: None)
        monkeypatch.setattr(label_files, "say", lambda producer, topic, event: self.said.append(event))


def test_the_commands_export_and_import(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shelf = shelf_of(*planned([row("pava"), row("unknown", 5, 10)]), *planned([row("pava", clip=TWICE)]))
    shelf = shelf_of(*shelf.labels(), *planned([row("nothing", clip=TWICE)], shelf, by="ben"))
    produced = Produced(monkeypatch, shelf)
    out = tmp_path / "out.csv"
    told = CliRunner().invoke(labels, ["export", "--format", "csv", "--out", str(out)])
    assert told.exit_code == 0
    assert told.output.startswith("2 windows were written") and "1 wait" in told.output
    table = tmp_path / "mine.txt"
    write_files("raven", [settled(B, 0.0, "species", "pava")], table)
    told = CliRunner().invoke(labels, ["import", str(table), "--format", "raven", "--by", "cleo", "--site", "s"])
    assert told.exit_code == 0, told.output
    assert [(one.by, one.provenance, one.labels) for one in produced.said] == [("cleo", "import:raven:mine.txt", ("pava",))]


def test_audacitys_folder_is_noted_because_its_files_are_named_by_clips(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Produced(monkeypatch, shelf_of(*planned([row("pava")])))
    for kind, noted in (("csv", []), ("audacity", [tmp_path / "audacity"])):
        told = CliRunner().invoke(labels, ["export", "--format", kind, "--out", str(tmp_path / kind)])
        assert told.exit_code == 0, told.output
        assert [one for one in derived_folders(settings) if one.is_relative_to(tmp_path) and one.name in KINDS] == noted, kind


def test_an_imported_voice_is_erased_where_it_lies_and_the_clips_beside_it_are_not(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    produced = Produced(monkeypatch, Shelf())
    erased: list[str] = []
    monkeypatch.setattr(label_files, "erase", lambda settings, clip: erased.append(clip))
    table = tmp_path / "mine.txt"
    write_files("raven", [settled(A, 0.0, "speech"), settled(A, 5.0, "speech"), settled(B, 0.0, "species", "pava")], table)
    told = CliRunner().invoke(labels, ["import", str(table), "--format", "raven", "--by", "cleo"])
    assert told.exit_code == 0, told.output
    assert len(produced.said) == 3 and erased == [A]


def test_a_refused_file_is_one_sentence_and_exit_code_2(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    produced = Produced(monkeypatch, Shelf())
    table = tmp_path / "mine.txt"
    write_files("raven", [settled(B, 0.0, "species", "pava"), settled(B, 5.0, "species", "dodo")], table)
    for arguments, words in (
        (["--by", "cleo"], ["line 3", "dodo"]), (["--by", "a/b"], ["no name"]), (["--by", "cleo", "--site", "x"], ["line 2", "not known"])
    ):  # fmt: skip
        monkeypatch.setattr("sys.argv", ["soundscape", "labels", "import", str(table), "--format", "raven", *arguments])
        monkeypatch.setattr("soundscape.cli.Commands.get_command", lambda self, ctx, name: labels)
        with pytest.raises(SystemExit) as end:
            main()
        assert end.value.code == 2
        said = capsys.readouterr().err
        assert said.count("\n") == 1 and all(word in said for word in words), said
    assert produced.said == []
