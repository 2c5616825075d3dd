"""The demo: what it tells of answers, how it ends, and that it says what failed."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import MagicMock
from uuid import UUID

import pytest
from click.testing import CliRunner
from rich.console import Console

from compose import demo_answers, demo_steps
from compose.demo import demo
from compose.demo_answers import Streamed, compare, latencies, read_streamed, write_rows
from compose.demo_steps import Bar
from compose.demo_story import StepFailed, Story
from compose.demo_tables import heard_table, latency_table, score_table, species_table
from compose.local import tools
from soundscape.errors import Unavailable
from soundscape.events import ClipAnalysed, ClipDied, Detection, Names, Place, Stages, Window
from soundscape.settings import get_settings
from soundscape.taxonomy import Species
from soundscape.wire import Message, encode

NOW = datetime(2026, 6, 1, 5, 0, tzinfo=UTC)
A, B = "00000000-0000-0000-0000-00000000000a", "00000000-0000-0000-0000-00000000000b"
FROM_LATER = Message(b"", b"{}", [("ce_type", b"org.elsilencio.something.v9")])
"""A record that this version does not know."""
WREN = Names(scientific="Pilatroglodytes saltans", en="Marble Wren", es="Cucarachero Canica")


def answer(
    clip: str, scores: list[tuple[float, float]], heard: list[tuple[str, float, float]], topic: str = "recordings", ms: int = 100
) -> ClipAnalysed:
    """An answer over the labels wren and frog, a window for each pair of scores; every stage takes `ms`."""
    moments = [NOW + timedelta(milliseconds=ms * n) for n in range(6)]
    names = ("published", "received", "decoded", "features", "inferred", "predicted")
    return ClipAnalysed(
        clip_id=UUID(clip), stream="REC01", site="here", place=Place(topic=topic, partition=0, offset=1), release="r", release_digest="d",
        generation=1, feature_fingerprints=("f",), labels=("frog", "wren"),
        windows=tuple(Window(start_s=5.0 * n, end_s=5.0 * n + 5, scores=pair) for n, pair in enumerate(scores)),
        detections=tuple(
            Detection(label=label, names=WREN, taxon="Aves", confidence=0.9, unweighted=0.9, threshold=0.5, start_s=start, end_s=end)
            for label, start, end in heard
        ),
        stages=Stages.model_validate(dict(zip(names, moments, strict=True))),
    )  # fmt: skip


def record(topic: str, message: Message | None) -> SimpleNamespace:
    """As kafka-python hands it out; without a message, a tombstone."""
    return SimpleNamespace(topic=topic, value=message and message.value, headers=message.headers if message else [])


def shown(renderable: object) -> str:
    out = io.StringIO()
    Console(file=out, width=160).print(renderable)
    return out.getvalue()


@pytest.fixture
def streamed(tmp_path: Path) -> Streamed:
    """A minute of ten seconds and a tour's clip, with their truth."""
    folder = tmp_path / "truth"
    folder.mkdir()
    (folder / "clips.csv").write_text(f"clip_id,stem,stream,lane\n{A},REC01_20260601_050000,REC01,recordings\n{B},TOUR01_x,TOUR01,clips\n")
    (folder / "soundscape_labels.csv").write_text(
        "row_id,labels\nREC01_20260601_050000_5,frog wren\nREC01_20260601_050000_10,\nTOUR01_x_5,frog\n"
    )
    return read_streamed(folder)


def test_each_row_of_truth_meets_the_detections_of_its_own_window(streamed: Streamed) -> None:
    answers = {A: answer(A, [(0.1, 0.9), (0.2, 0.8)], [("wren", 0.0, 10.0)]), B: answer(B, [(0.7, 0.1)], [])}
    heard = compare([streamed], answers)

    wren, frog = heard.by_label["wren"], heard.by_label["frog"]
    assert (wren.there, wren.heard, wren.both) == (1, 2, 1)
    assert (frog.there, frog.heard, frog.both) == (2, 0, 0)
    assert heard.rows == 3


def test_answers_are_written_as_rows_that_the_truth_knows(streamed: Streamed, tmp_path: Path) -> None:
    folder = tmp_path / "answers"
    folder.mkdir()
    (folder / "OLD.csv").write_text("row_id\n")
    count = write_rows(folder, streamed, {A: answer(A, [(0.1, 0.9), (0.2, 0.8)], [])})

    assert count == 2
    assert [path.name for path in folder.iterdir()] == ["REC01_20260601_050000.csv"]
    with (folder / "REC01_20260601_050000.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert rows == [
        {"row_id": "REC01_20260601_050000_5", "frog": "0.1", "wren": "0.9"},
        {"row_id": "REC01_20260601_050000_10", "frog": "0.2", "wren": "0.8"},
    ]
    assert {row["row_id"] for row in rows} <= streamed.truth.keys()


def test_latency_is_told_by_lane_and_stage(streamed: Streamed) -> None:
    tours = [answer(B, [(0, 0)], [], topic="clips", ms=ms) for ms in (10, 30)]
    spent = latencies([answer(A, [(0, 0)], [], ms=100), *tours])

    assert spent["bulk"]["all"] == pytest.approx((500.0, 500.0))
    assert spent["live"]["inferred"] == pytest.approx((20.0, 29.0))
    text = shown(latency_table(spent))
    assert "inference" in text
    assert "500" in text


def test_tables_show_names_and_scores() -> None:
    detection = {"names": WREN.model_dump(), "confidence": 0.87, "unweighted": 0.91, "start_s": 0.0, "end_s": 5.0}
    text = shown(species_table({"release": "birdnet-here", "detections": [detection]}))
    for said in ("birdnet-here", WREN.scientific, WREN.en, WREN.es, "0.87", "0.91", "0 to 5 s"):
        assert said in text
    one = {"auc": 0.961, "auc_interval": (0.94, 0.98), "mean_ap": None, "classes": 14, "rows": 216, "recordings": 18}
    text = shown(score_table({**one, "rivals": {"band_energy": {**one, "auc": 0.7}}}))
    for said in ("0.961 (0.940 to 0.980)", "14", "rival: band energy", "0.700"):
        assert said in text


def test_a_species_is_named_in_what_was_heard(streamed: Streamed) -> None:
    heard = compare([streamed], {A: answer(A, [(0.1, 0.9), (0.2, 0.8)], [("wren", 0.0, 5.0)])})
    species = {"wren": Species(label="wren", scientific=WREN.scientific, en=WREN.en, es=WREN.es, taxon="Aves")}
    text = shown(heard_table(heard, species, {"wren": 0.95, "frog": None}))

    assert "Marble Wren" in text
    assert "0.950" in text


@pytest.fixture
def story(tmp_path: Path) -> Iterator[Story]:
    one = Story(Console(file=io.StringIO(), width=200), tmp_path / "demo.log")
    yield one
    one.close()


def spoken(story: Story) -> str:
    """What was said so far."""
    file = story.console.file
    assert isinstance(file, io.StringIO)
    return file.getvalue()


@pytest.fixture
def command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A `soundscape` that notes how it was called; `fail` fails, `down` works."""
    path = tmp_path / "bin" / "soundscape"
    path.parent.mkdir()
    notes = tmp_path / "called"
    path.write_text(
        f'#!/bin/sh\necho "$@" >> {notes}\nif [ "$1" = fail ]; then echo "soundscape: it is broken." >&2; exit 2; fi\necho "last of $1"\n'
    )
    path.chmod(0o755)
    monkeypatch.setattr(tools, "VENV", tmp_path)
    return notes


def test_a_step_says_its_reason_and_runs_a_command(story: Story, command: Path) -> None:
    with story.step("Begin", "because"):
        assert story.run("hello", "world") == ["last of hello"]

    assert command.read_text() == "hello world\n"
    assert "1. Begin - because" in spoken(story)
    assert "last of hello" in story.log_path.read_text()


def test_a_failed_command_ends_the_step_with_its_last_words(story: Story, command: Path) -> None:
    with pytest.raises(StepFailed, match="`soundscape fail` ended with 2"):
        story.run("fail")

    assert "it is broken" in spoken(story)


def test_the_key_is_not_written_to_the_log(story: Story, command: Path) -> None:
    (tools.VENV / "bin" / "soundscape").write_text('#!/bin/sh\necho "it is shown this once: word-of-$2"\n')
    assert demo_steps._key(story) == "word-of-create"

    story.close()
    logged = story.log_path.read_text()
    assert "$ soundscape key create demo" in logged
    assert "word-of-list" in logged
    assert "word-of-create" not in logged


def test_an_answer_that_does_not_decode_is_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    here = answer(A, [(0.1, 0.9)], [])
    died = ClipDied(clip_id=B, reason="empty", detail="", topic="clips", partition=0, offset=1, died_at=NOW, original=b"")
    consumer = MagicMock()
    consumer.end_offsets.return_value = {}
    consumer.poll.return_value = {
        "one": [record("predictions", FROM_LATER), record("predictions", encode(here))],
        "other": [record("dead-letters", FROM_LATER), record("dead-letters", encode(died))],
    }
    monkeypatch.setattr(demo_answers, "new_consumer", lambda _: consumer)
    answers = demo_answers.Answers(get_settings())

    assert answers.poll() == 4
    assert answers.predicted == {A: here}
    assert list(answers.dead) == [B]


def test_what_was_answered_is_counted_to_the_end(story: Story) -> None:
    bar = Bar(story)
    for done in (0, 1, 2):
        bar(done, 2)

    assert "0 of 2" in spoken(story)
    assert spoken(story).rstrip().endswith("2 of 2 clips have their answer")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SOUNDSCAPE_DATA_DIR", str(tmp_path / "var"))
    get_settings.cache_clear()
    return tmp_path / "var"


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [(None, 0, "last of down"), (StepFailed("It stood still."), 1, "It stood still."), (Unavailable("No broker."), 1, "No broker."),
     (KeyboardInterrupt(), 130, "Interrupted")],
)  # fmt: skip
def test_however_it_ends_the_stack_is_taken_down(
    folder: Path, command: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException | None, code: int, said: str
) -> None:
    def tell(*_: object) -> None:
        if error is not None:
            raise error

    monkeypatch.setattr(demo_steps, "tell", tell)
    result = CliRunner().invoke(demo, [])
    get_settings.cache_clear()

    assert result.exit_code == code
    assert said in result.output
    assert command.read_text() == "down\n"
    if code == 1:
        assert str(folder / "logs" / "demo.log") in result.output.replace("\n", "")


@pytest.mark.parametrize(("error", "code"), [(None, 1), (StepFailed("It stood still."), 1), (KeyboardInterrupt(), 130)])
def test_a_stack_that_is_not_taken_down_ends_it_non_zero_and_is_said(
    folder: Path, command: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException | None, code: int
) -> None:
    def tell(*_: object) -> None:
        if error is not None:
            raise error

    monkeypatch.setattr(demo_steps, "tell", tell)
    (tools.VENV / "bin" / "soundscape").write_text('#!/bin/sh\necho "soundscape: kafka does not end." >&2\nexit 2\n')
    result = CliRunner().invoke(demo, [])
    get_settings.cache_clear()

    assert result.exit_code == code
    for said in ("taking the stack down", "kafka does not end.", "`soundscape down` ended with 2"):
        assert said in result.output


def test_keep_leaves_the_stack_running(folder: Path, command: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo_steps, "tell", lambda *_: None)
    result = CliRunner().invoke(demo, ["--keep"])
    get_settings.cache_clear()

    assert result.exit_code == 0
    assert not command.exists()


def test_the_audit_is_asked_until_nothing_waits(story: Story, monkeypatch: pytest.MonkeyPatch) -> None:
    said = iter([{"waiting": 3, "lost": 0}, {"waiting": 0, "lost": 0}])
    monkeypatch.setattr(story, "ask", lambda *_: (0, [json.dumps(next(said))], []))

    assert demo_steps._audit(story) == {"waiting": 0, "lost": 0}
