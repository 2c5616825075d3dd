"""Lost and twice: what the audit says when logs, board and files agree, and when one of them does not."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from consumers import audit as module
from consumers.audit import difference, file_differences
from consumers.files import Said
from consumers.recount import Answer, FileAnswer, Log, tally
from consumers.tour_recount import StillBehind
from soundscape.answers import error_body
from soundscape.audio import sha256
from soundscape.settings import Settings

CSV = b"row_id,frog\nREC_5,0.5\nREC_10,0.5\n"


@pytest.fixture
def log() -> Log:
    """Five clips, of which the workers have passed the first four; `lost` was passed without a word."""
    places = {name: [f"clips:0:{n}"] for n, name in enumerate(("answered", "dead", "healed", "lost", "waiting"))}
    answer = Answer("predictions:0:0", frozenset({"counts:s:h:frog"}))
    return Log(
        accepted=places,
        answers={"answered": answer, "healed": replace(answer, place="predictions:0:1")},
        dead={"dead": "dead-letters:0:0", "healed": "dead-letters:0:1"},
        committed={("clips", 0): 4},
        read_to={"clips:0": 5, "predictions:0": 2, "dead-letters:0": 2},
    )


def test_each_accepted_clip_is_one_of_four(log: Log) -> None:
    counted = tally(log)
    assert (counted.accepted, counted.predicted, counted.dead, counted.waiting) == (5, 2, 1, ("waiting",))
    assert counted.lost == {"lost": ["clips:0:3"]}


def test_a_clip_sent_again_behind_the_workers_place_waits(log: Log) -> None:
    log.accepted["lost"].append("recordings:3:7")
    assert tally(log).lost == {}


def test_an_answer_to_a_clip_that_nobody_sent_is_not_counted(log: Log) -> None:
    log.answers["stranger"] = Answer("predictions:0:1", frozenset())
    assert tally(log).predicted == 2


def _board(log: Log, clip: str) -> dict[str, str]:
    said = {"accepted": log.accepted[clip][0], "predicted": log.answers[clip].place}
    return said | ({"dead": log.dead[clip]} if clip in log.dead else {})


def test_a_board_that_agrees_has_no_difference(log: Log) -> None:
    assert difference(log, "answered", _board(log, "answered"), {"counts:s:h:frog"}) is None
    assert difference(log, "healed", _board(log, "healed"), {"counts:s:h:frog"}) is None
    assert difference(log, "dead", {"accepted": "clips:0:1", "dead": "dead-letters:0:0"}, set()) is None


@pytest.mark.parametrize(
    ("sets", "said"),
    [
        ({"counts:s:h:frog", "counts:s:h:owl"}, "counted in counts:s:h:owl where its answer is not"),
        (set(), "not counted in counts:s:h:frog"),
        ({"counts:s:h:owl"}, "not counted in counts:s:h:frog"),
    ],
)
def test_a_clip_in_a_wrong_set_is_named(log: Log, sets: set[str], said: str) -> None:
    assert said in (difference(log, "answered", _board(log, "answered"), sets) or "")


def test_a_hash_with_an_old_answer_is_named(log: Log) -> None:
    assert "predicted" in (difference(log, "healed", _board(log, "healed") | {"predicted": "predictions:0:0"}, set()) or "")
    assert "no place" in (difference(log, "answered", {"accepted": "clips:0:0"}, {"counts:s:h:frog"}) or "")


def test_a_count_without_an_answer_is_named(log: Log) -> None:
    assert "without an answer" in (difference(log, "bogus", {}, {"counts:s:h:frog"}) or "")


def test_what_the_board_heard_since_is_not_held_against_it(log: Log) -> None:
    assert difference(log, "answered", _board(log, "answered") | {"predicted": "predictions:0:2"}, {"counts:s:h:owl"}) is None


def _file(predicted: bool = True, digest: str = sha256(CSV)) -> FileAnswer:
    return FileAnswer(Said("answered", predicted, 1.0), "REC.ogg", digest)


def test_the_right_file_has_no_difference(log: Log, tmp_path: Path) -> None:
    log.files = {"REC": _file()}
    (tmp_path / "REC.csv").write_bytes(CSV)
    assert file_differences(log, tmp_path) == ([], [])


@pytest.mark.parametrize(
    ("body", "said"), [(CSV + b"REC_10,0.5\n", "holds a row twice"), (CSV.replace(b"0.5", b"0.6"), "is not the answer on the log")]
)
def test_a_wrong_csv_is_named(log: Log, tmp_path: Path, body: bytes, said: str) -> None:
    log.files = {"REC": _file()}
    (tmp_path / "REC.csv").write_bytes(body)
    ((line,), _) = file_differences(log, tmp_path)
    assert said in line


def test_an_answer_and_a_refusal_of_one_file_are_named(log: Log, tmp_path: Path) -> None:
    log.files = {"REC": _file()}
    (tmp_path / "REC.csv").write_bytes(CSV)
    (tmp_path / "REC.error.json").write_bytes(error_body("REC.ogg", "answered", "not-audio", "It is no sound."))
    ((line,), _) = file_differences(log, tmp_path)
    assert "REC.error.json is there" in line


def test_a_file_changed_since_and_refused_before_the_log_is_no_difference(log: Log, tmp_path: Path) -> None:
    log.files = {"REC": _file()}
    (tmp_path / "REC.error.json").write_bytes(error_body("REC.ogg", "another", "too-large", "It is too large."))
    assert file_differences(log, tmp_path) == ([], [])


def test_an_answer_that_was_moved_away_is_a_note(log: Log, tmp_path: Path) -> None:
    log.files = {"REC": _file()}
    lines, (note,) = file_differences(log, tmp_path)
    assert not lines
    assert note.startswith("1 answered files")


@pytest.fixture
def audited(log: Log, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], tuple[int, dict[str, int]]]:
    """Exit code and object of the command, with a log of which all is well but for the tours."""
    del log.accepted["lost"], log.accepted["waiting"]
    redis = type("Redis", (), {"close": lambda self: None})()
    fakes: dict[str, Any] = {
        "get_settings": lambda: Settings(data_dir=tmp_path), "read_logs": lambda settings: log, "new_redis": lambda settings: redis,
        "_caught_up": lambda *_: None, "board_differences": lambda log, client: [], "miscounts": lambda settings, wait_s: [],
        "unsummed": lambda settings, log: {"answered"},
    }  # fmt: skip
    for name, fake in fakes.items():
        monkeypatch.setattr(module, name, fake)

    def run() -> tuple[int, dict[str, int]]:
        done = CliRunner().invoke(module.audit, ["--json"])
        said: dict[str, int] = json.loads(done.stdout)
        return done.exit_code, said

    return run


def test_an_audit_without_a_difference(audited: Callable[[], tuple[int, dict[str, int]]]) -> None:
    assert audited() == (0, {"waiting": 0, "accepted": 3, "predicted": 2, "dead": 1, "lost": 0, "twice": 0})


def test_a_tour_that_counts_a_clip_twice_fails_the_audit(
    audited: Callable[[], tuple[int, dict[str, int]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "miscounts", lambda settings, wait_s: ["t: its summary holds 3 clips, the log 2"])
    code, said = audited()
    assert (code, said["twice"]) == (1, 1)


def test_clips_that_their_tours_have_not_taken_in_wait_and_are_not_lost(
    audited: Callable[[], tuple[int, dict[str, int]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    def behind(settings: Settings, wait_s: float) -> list[str]:
        raise StillBehind("The process `tours` is 1 records behind.")

    monkeypatch.setattr(module, "miscounts", behind)
    assert audited() == (0, {"waiting": 1, "accepted": 3, "predicted": 1, "dead": 1, "lost": 0, "twice": 0})


@pytest.fixture
def lost(log: Log, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[dict[str, list[str]]]:
    """An audit that finds `lost` lost, and what it was asked to send again; the log still has it."""
    asked: list[dict[str, list[str]]] = []
    monkeypatch.setattr(module, "get_settings", lambda: Settings(data_dir=tmp_path))
    monkeypatch.setattr(module, "recount", lambda settings, wait_s: (tally(log), [], []))

    def send(settings: Settings, lost: dict[str, list[str]]) -> int:
        asked.append(lost)
        return len(lost)

    monkeypatch.setattr(module, "send_lost", send)
    return asked


def test_lost_clips_are_sent_again_only_when_asked(lost: list[dict[str, list[str]]]) -> None:
    """By their places, and with a word on how many and what then; the clips are lost until they are answered."""
    assert CliRunner().invoke(module.audit, []).exit_code == 1
    assert lost == []
    done = CliRunner().invoke(module.audit, ["--send-again"])
    assert lost == [{"lost": ["clips:0:3"]}]
    assert "1 lost clip was sent again; `soundscape audit` counts them answered once nothing waits any more." in done.stdout
    assert "could not be" not in done.stdout
    assert done.exit_code == 1
    assert json.loads(CliRunner().invoke(module.audit, ["--send-again", "--json"]).stdout)["sent_again"] == 1
    assert "sent_again" not in json.loads(CliRunner().invoke(module.audit, ["--json"]).stdout)


def test_what_the_log_has_no_longer_is_said(lost: list[dict[str, list[str]]], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "send_lost", lambda settings, lost: 0)
    said = CliRunner().invoke(module.audit, ["--send-again"]).stdout
    assert "0 lost clips were sent again" in said
    assert "1 could not be: the log has them no longer." in said
