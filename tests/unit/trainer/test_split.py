"""No recording is learnt from and judged on."""

from __future__ import annotations

from collections import defaultdict

from hypothesis import given
from hypothesis import strategies as st

from trainer.data.catalog import Clip
from trainer.data.split import MIN_RECORDINGS, TRAIN, VALIDATION, split

clips_of = st.lists(st.tuples(st.sampled_from("abcd"), st.integers(0, 30)), unique=True, min_size=1, max_size=80).map(
    lambda pairs: [Clip(f"{label}/XC{n}.ogg", (label,), f"XC{n}") for label, n in pairs]
)


@given(clips=clips_of, placed=st.sets(st.integers(0, 30)))
def test_no_recording_on_both_sides_and_placed_ones_never_in_training(clips: list[Clip], placed: set[int]) -> None:
    sides = split(clips, {f"XC{n}" for n in placed})
    by_recording = defaultdict(set)
    for clip in clips:
        by_recording[clip.recording].add(sides[clip.filename])
    assert all(len(found) == 1 for found in by_recording.values())
    assert all(by_recording[f"XC{n}"] == {VALIDATION} for n in placed if f"XC{n}" in by_recording)


def test_it_is_stratified_and_spares_the_rare() -> None:
    clips = [Clip(f"common/XC{n}.ogg", ("common",), f"XC{n}") for n in range(100)]
    clips += [Clip(f"rare/XC{n}.ogg", ("rare",), f"XC{n}") for n in range(200, 200 + MIN_RECORDINGS - 1)]
    sides = split(clips, ())
    assert sum(sides[clip.filename] == VALIDATION for clip in clips[:100]) == 15
    assert all(sides[clip.filename] == TRAIN for clip in clips[100:])


def test_placed_recordings_count_towards_the_share() -> None:
    clips = [Clip(f"a/XC{n}.ogg", ("a",), f"XC{n}") for n in range(20)]
    sides = split(clips, {"XC3", "XC4", "XC5"})
    assert {name for name, side in sides.items() if side == VALIDATION} == {"a/XC3.ogg", "a/XC4.ogg", "a/XC5.ogg"}


def test_a_side_that_the_folder_fixes_stays_and_counts_towards_the_share() -> None:
    fixed = {n: "validation" if n < 5 else "train" for n in range(30)}
    clips = [Clip(f"a/XC{n}.ogg", ("a",), f"XC{n}", side=fixed.get(n, "")) for n in range(60)]
    sides = split(clips, ())
    assert all(sides[f"a/XC{n}.ogg"] == side for n, side in fixed.items())
    assert list(sides.values()).count(VALIDATION) == 9
    assert split(clips, {"XC20"})["a/XC20.ogg"] == VALIDATION, "what is heard in a labelled soundscape is never learnt from"
