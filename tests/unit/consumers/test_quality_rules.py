"""What the random sample may say, and what it may not."""

from __future__ import annotations

import random
from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consumers.quality_rules import Heard, Rate, Sample, completed_prefix, judge, stability
from soundscape.judgements import Settled

MONDAY, TUESDAY = date(2026, 11, 23), date(2026, 11, 24)
KNOWN = frozenset("abc")


def sample(clip: str, order: float = 0.0, day: date = MONDAY, release: str = "r") -> Sample:
    """A window of the random stratum."""
    return Sample(clip, day, order, release, 0.0, None)


def said(clip: str, *labels: str, verdict: str = "species") -> tuple[tuple[str, float], Settled]:
    """What labelers settled of it."""
    one = Settled(clip, 0.0, 5.0, verdict, frozenset(labels), "expert", "random", ("ana",))  # type: ignore[arg-type]
    return (clip, 0.0), one


def heard(*named: str, **scores: float) -> Heard:
    """What the release said."""
    return Heard(frozenset(named), scores, KNOWN)


def test_only_what_comes_before_the_first_gap_counts() -> None:
    samples = [sample("1", 0.01), sample("3", 0.03), sample("2", 0.02), sample("4", 0.001, TUESDAY)]
    settled = dict([said("1", "a"), said("3", "a"), said("4", "a")])
    assert [one.clip_id for one, _ in completed_prefix(samples, settled)] == ["1", "4"]


@given(st.sets(st.integers(0, 30)), st.integers(0, 10_000))
def test_the_order_of_arrival_changes_nothing(labelled: set[int], seed: int) -> None:
    samples = [sample(str(n), n / 31) for n in range(31)]
    settled = dict(said(str(n), "a") for n in labelled)
    shuffled = random.Random(seed).sample(samples, len(samples))
    found = [int(one.clip_id) for one, _ in completed_prefix(shuffled, settled)]
    assert found == list(range(len(found))) and len(found) not in labelled


def test_precision_and_recall_by_species_and_release() -> None:
    truth = [("1", "a"), ("2", "a"), ("3", "b"), ("4",), ("5", "a")]
    answers = {"1": heard("a"), "2": heard("b"), "3": heard("a", "b"), "4": heard(), "5": heard("a")}
    pairs = [(sample(clip), said(clip, *labels, verdict="species" if labels else "nothing")[1]) for clip, *labels in truth]
    found = {one.label: one for one in judge(pairs, answers).species}
    assert found["a"].precision.value == found["a"].recall.value == pytest.approx(2 / 3)
    assert found["a"].precision.n == found["a"].recall.n == 3
    assert (found["b"].precision.value, found["b"].recall.value) == (0.5, 1.0)


def test_what_the_labeler_could_not_say_is_no_evidence() -> None:
    pairs = [(sample("1", 0.1), said("1", verdict="unknown")[1]), (sample("2", 0.2), said("2", verdict="speech")[1])]
    found = judge(pairs, {"1": heard("a"), "2": heard("a")})
    assert found.completed == 2 and found.species == []


def test_a_label_that_the_release_does_not_know_is_not_missed() -> None:
    found = judge([(sample("1", 0.1), said("1", "a", "stranger")[1])], {"1": heard("a")})
    assert [one.label for one in found.species] == ["a"] and found.overall["r"][1] == Rate.of(1, 1)


def test_reliability_counts_every_score() -> None:
    pairs = [(sample(str(n), n / 100), said(str(n), *("a" if n < 8 else "b"))[1]) for n in range(10)]
    found = judge(pairs, {str(n): heard(a=0.85, b=0.05) for n in range(10)})
    assert [(low, rate.value, rate.n) for low, _, rate in found.reliability] == [(0.0, 0.2, 10), (0.8, 0.8, 10)]


def test_an_interval_holds_its_value_and_narrows() -> None:
    few, many = Rate.of(8, 10), Rate.of(800, 1000)
    assert few.interval and many.interval and few.value == many.value == 0.8
    assert few.interval[0] < many.interval[0] < 0.8 < many.interval[1] < few.interval[1]
    assert Rate.of(0, 0) == Rate(None, 0, None)


def test_a_mix_is_stable_against_itself() -> None:
    assert stability({"a": 100, "b": 50}, {"a": 200, "b": 100}) < 0.01 < 0.25 < stability({"a": 100, "b": 50}, {"c": 150})
    assert stability({}, {}) == 0.0
