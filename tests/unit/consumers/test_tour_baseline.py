"""Tours before the system: what a CSV may hold, and what is compared."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from consumers import tours_command
from consumers.tour_baseline import Before, baseline_path, compare, import_baseline, kept_baseline
from soundscape.errors import Invalid
from soundscape.events import TourSummed
from soundscape.settings import Settings

NOW = datetime.now(UTC)
GOOD = "tour,date,minutes,species,guide\na,2025-03-01,60,6,ana\nb,2025-03-02,30,4,ben\nc,2025-03-03,120,20,ana\n"


def summed(tour: str = "t", **fields: Any) -> TourSummed:
    """A tour that has ended: 4 species in an hour."""
    said: dict[str, Any] = {
        "tour_id": tour, "site": "s", "stream": tour, "species": (), "clips": 100, "at": NOW, "ended_at": NOW, "effort_minutes": 60.0,
        "diversity": 4, "diversity_per_hour": 4.0, "feedback": 3, "rating": 4,
    }  # fmt: skip
    return TourSummed(**(said | fields))


def imported(tmp_path: Path, text: str | bytes) -> list[Before]:
    """What is kept of a CSV."""
    path = tmp_path / "given.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    settings = Settings(data_dir=tmp_path / "data")
    import_baseline(settings, path)
    return kept_baseline(settings)


def test_the_tours_of_a_csv_are_kept_whatever_columns_stand_beside(tmp_path: Path) -> None:
    kept = imported(tmp_path, "\ufeff" + GOOD)
    assert kept[0] == Before(tour="a", date=date(2025, 3, 1), minutes=60.0, species=6)
    assert [one.tour for one in kept] == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "no column 'tour'"),
        ("tour,date,minutes\na,2025-03-01,60\n", "no column 'species'"),
        ("tour,date,minutes,species\n", "has no tour"),
        (GOOD + "a,2025-03-04,60,6,ana\n", "line 5: tour 'a' stands twice"),
        (GOOD + "d,yesterday,60,6,ana\n", "line 5: date is 'yesterday'"),
        (GOOD + "d,2025-03-04,0,6,ana\n", "line 5: minutes is '0'"),
        (GOOD + "d,2025-03-04,nan,6,ana\n", "line 5: minutes is 'nan'"),
        (GOOD + "d,2025-03-04,60,-1,ana\n", "line 5: species is '-1'"),
        (GOOD + "d,2025-03-04,60,many,ana\n", "line 5: species is 'many'"),
        (GOOD + "d,2025-03-04,60\n", "line 5: species is None"),
        (GOOD + "d,2025-03-04,60,5,1,ana\n", "line 5 has more values"),
        (b"\xff\xfe\x00", "no CSV in UTF-8"),
        ('tour,date,minutes,species\n"a', "no CSV in UTF-8"),
    ],
)
def test_a_csv_that_does_not_hold_says_where_and_the_one_before_stays(tmp_path: Path, text: str | bytes, why: str) -> None:
    before = imported(tmp_path, GOOD)
    with pytest.raises(Invalid, match=why):
        imported(tmp_path, text)
    assert kept_baseline(Settings(data_dir=tmp_path / "data")) == before


def test_a_file_too_large_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Invalid, match="10,000,000"):
        imported(tmp_path, b"x" * 10_000_001)


def test_medians_before_and_now(tmp_path: Path) -> None:
    before = imported(tmp_path, GOOD)
    now = [
        summed("1"), summed("2", diversity=10, diversity_per_hour=20.0, effort_minutes=30.0, clips=50, feedback=1, rating=None),
        summed("3", diversity=0, diversity_per_hour=None, effort_minutes=0.5, clips=2, feedback=0, rating=5),
        summed("open", ended_at=None, diversity=99),
        summed("empty", clips=0, diversity=99),
        summed("REC@2026-03-01", stream="REC", diversity=99),
    ]  # fmt: skip
    said = compare(before, now)
    assert said["before"] == {"tours": 3, "species": 6.0, "species_per_hour": 8.0, "minutes": 60.0}
    assert said["now"] == {
        "tours": 3, "species": 4.0, "species_per_hour": 12.0, "tours_with_rate": 2, "minutes": 30.0, "requests": 50.0, "feedback": 1.0,
        "rated": 2, "rating": 4.5,
    }  # fmt: skip
    forgotten = summed("forgotten", ended_at=None, at=NOW - timedelta(hours=2))
    assert compare(before, [forgotten])["now"]["tours"] == 1
    assert compare(before, [])["now"]["species"] is None


def test_without_a_baseline_it_is_said_how_to_get_one(tmp_path: Path) -> None:
    assert not baseline_path(Settings(data_dir=tmp_path)).exists()
    with pytest.raises(Invalid, match="baseline import"):
        kept_baseline(Settings(data_dir=tmp_path))


def test_the_commands_for_people_and_for_machines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings, given = Settings(data_dir=tmp_path / "data"), tmp_path / "given.csv"
    given.write_text(GOOD)
    monkeypatch.setattr(tours_command, "get_settings", lambda: settings)
    found = {one.tour_id: one for one in (summed("mine"), summed("other", site="far"), summed("REC@2026-03-01", stream="REC"))}
    monkeypatch.setattr(tours_command, "read_summaries", lambda _: found)

    def said(*arguments: str) -> str:
        done = CliRunner().invoke(tours_command.tours, arguments, catch_exceptions=False)
        assert done.exit_code == 0
        return done.output

    assert "3 tours" in said("baseline", "import", str(given))
    assert len(json.loads(said("baseline", "show", "--json"))) == 3
    assert "2025-03-01" in said("baseline", "show")
    assert json.loads(said("compare", "--json"))["now"]["tours"] == 2
    assert json.loads(said("compare", "--json", "--site", "far"))["now"]["tours"] == 1
    assert "species an hour" in said("compare")
    assert {one["tour_id"] for one in json.loads(said("list", "--json"))} == {"mine", "other"}
    assert len(json.loads(said("list", "--json", "--all"))) == 3
    assert len(json.loads(said("list", "--json", "--limit", "1"))) == 1
    assert "mine" in said("list")
    assert json.loads(said("show", "mine", "--json"))["diversity"] == 4
    assert "4 species confirmed" in said("show", "mine")


def test_a_tour_that_is_not_there_is_an_expected_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tours_command, "read_summaries", lambda _: {})
    assert isinstance(CliRunner().invoke(tours_command.tours, ["show", "none"]).exception, Invalid)


@pytest.mark.parametrize(("lines", "code"), [([], 0), (["t: clips is 1, the log says 2"], 1)])
def test_check_ends_with_1_where_a_tour_differs(monkeypatch: pytest.MonkeyPatch, lines: list[str], code: int) -> None:
    monkeypatch.setattr(tours_command, "differences", lambda settings, wait_s: (2, lines))
    done = CliRunner().invoke(tours_command.tours, ["check"])
    assert done.exit_code == code
    assert all(line in done.output for line in lines)
