"""The older recordings first, the newer ones later, and none on two sides."""

from __future__ import annotations

from collections import Counter, defaultdict
from datetime import date, timedelta

from hypothesis import given
from hypothesis import strategies as st

from trainer.data.catalog import Clip
from trainer.data.time_split import LATER, NEW, OLDER, time_split


def clip(label: str, n: int, day: int | None = None) -> Clip:
    """A clip of recording XCn, recorded on the so-manieth day of 2020."""
    return Clip(f"{label}/XC{n}.ogg", (label,), f"XC{n}", date=None if day is None else date(2020, 1, 1) + timedelta(days=day))


clips_of = st.lists(st.tuples(st.sampled_from("abcd"), st.integers(0, 30)), unique=True, min_size=1, max_size=80).map(
    lambda pairs: [clip(label, n, n * 7 % 31 if n % 3 else None) for label, n in pairs]
)


@given(clips=clips_of, placed=st.sets(st.integers(0, 30)))
def test_no_recording_on_two_sides_in_whatever_folders_it_lies_and_placed_ones_are_never_learnt_from(
    clips: list[Clip], placed: set[int]
) -> None:
    found = time_split(clips, {f"XC{n}" for n in placed})
    sides = defaultdict(set)
    for one in clips:
        sides[one.recording].add(found.sides[one.filename])
    assert all(len(one) == 1 for one in sides.values())
    assert all(NEW not in sides[f"XC{n}"] for n in placed if f"XC{n}" in sides)
    assert sum(found.recordings.values()) == len(sides)
    assert found == time_split(clips[::-1], {f"XC{n}" for n in placed})


def test_the_newest_three_tenths_of_each_species_come_later_and_are_halved() -> None:
    days = {n: n * 37 % 100 for n in range(100)}
    clips = [clip("common", n, day) for n, day in days.items()] + [clip("rare", 100 + n, 50 + n) for n in range(10)]
    found = time_split(clips, ())
    common = {n: found.sides[f"common/XC{n}.ogg"] for n in days}
    assert {n for n, side in common.items() if side == OLDER} == {n for n, day in days.items() if day < 70}
    assert Counter(common.values()) == {OLDER: 70, NEW: 15, LATER: 15}
    assert [found.sides[f"rare/XC{100 + n}.ogg"] == OLDER for n in range(10)] == [True] * 7 + [False] * 3
    assert (found.recordings[OLDER], found.undated) == (77, 0)


def test_the_odd_ones_of_small_species_go_to_either_half_in_turns() -> None:
    found = time_split([clip(label, 10 * n + m, m) for n, label in enumerate("abcdef") for m in range(4)], ())
    assert found.recordings == {OLDER: 18, NEW: 3, LATER: 3}


def test_newer_recordings_that_were_placed_are_judged_on_and_others_learnt_from_instead() -> None:
    placed = {f"XC{n}" for n in (90, 91, 92, 3)}
    found = time_split([clip("a", n, n) for n in range(100)], placed)
    assert found.recordings == {OLDER: 70, NEW: 15, LATER: 15}
    assert [found.sides[f"a/XC{n}.ogg"] for n in (90, 91, 92, 3)] == [LATER, LATER, LATER, OLDER]


def test_recordings_without_a_date_are_counted_and_take_the_same_place_each_time() -> None:
    clips = [clip("a", n, n if n < 60 else None) for n in range(100)] + [clip("b", 99)]
    found = time_split(clips, ())
    assert found.undated == 40
    assert found.recordings[OLDER] == 70
    undated = Counter(found.sides[f"a/XC{n}.ogg"] for n in range(60, 100))
    assert undated[OLDER] > 20 and undated[NEW] + undated[LATER] > 4  # of any time, not all old and not all new
    alone = time_split([clip("a", n) for n in range(100)], ())
    assert alone.undated == 100 and alone.recordings == {OLDER: 70, NEW: 15, LATER: 15}
