"""Who gets which sample next: strata, turns, second and third reviews, leases."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid5

import pytest

from consumers.labeler.queue import (
    LEASE_S,
    RANDOM_SHARE,
    REASONS,
    SECOND_SHARE,
    Done,
    Leases,
    is_random_turn,
    next_task,
    stage_of,
    task_for,
    wants_second,
)
from consumers.labeler.shelf import Sample
from soundscape.events import NAMESPACE, ClipLabelled, Place
from soundscape.judgements import settle

NOW = datetime(2026, 3, 1, 6, tzinfo=UTC)
ONCE = [name for name in map(str, range(200)) if not wants_second(str(uuid5(NAMESPACE, name)))]
TWICE = [name for name in map(str, range(200)) if wants_second(str(uuid5(NAMESPACE, name)))]
"""Names of clips that get one review, and two."""


def sample(name: str, *reasons: str, windows: int = 1, minutes: int = 0) -> Sample:
    """A sample of the clip of that name."""
    place = Place(topic="samples", partition=0, offset=0)
    return Sample(
        clip_id=str(uuid5(NAMESPACE, name)), site="s", stream="t", tour_id=None, reasons=reasons or ("flagged",), place=place,
        answer_place=None, start_s=0.0, end_s=5.0 * windows, recorder=None, recorded_at=None, sampled_at=NOW + timedelta(minutes=minutes),
    )  # fmt: skip


def label(of: Sample, by: str, verdict: Any = "nothing", window: int = 0, review: int = 1) -> ClipLabelled:
    """A label of one of its windows."""
    start, end = of.windows[window]
    return ClipLabelled(
        label_id=f"{by}-{of.clip_id}-{window}", clip_id=of.clip_id, stream="t", site="s", start_s=start, end_s=end, verdict=verdict,
        labels=("frog",) if verdict == "species" else (), by=by, provenance="page", stratum=of.stratum, review=review, labelled_at=NOW,
    )  # fmt: skip


def nobody(clip_id: str) -> None:
    """No sample is leased."""


class Shelf:
    """Samples with their labels."""

    def __init__(self, *samples: Sample) -> None:
        self.labels: dict[str, list[ClipLabelled]] = {one.clip_id: [] for one in samples}
        self.samples = samples

    def work(self, by: str, verdict: Any = "nothing") -> Sample | None:
        """They take what comes next and judge all of it."""
        task = next_task(self.view(), by, nobody)
        if task is None:
            return None
        for start, _ in task.windows:
            window = [one for one, _ in task.sample.windows].index(start)
            self.labels[task.sample.clip_id].append(label(task.sample, by, verdict, window, task.review))
        return task.sample

    def view(self) -> list[tuple[Sample, list[ClipLabelled]]]:
        return [(one, self.labels[one.clip_id]) for one in self.samples]


def test_three_of_each_ten_are_of_the_random_stratum() -> None:
    many = [sample(name, "random") for name in ONCE[:60]] + [sample(name, "flagged") for name in ONCE[60:140]]
    shelf = Shelf(*many)
    for ten in range(5):
        given = [shelf.work("ana") for _ in range(10)]
        assert Counter(one.stratum for one in given if one)["random"] == round(10 * RANDOM_SHARE), ten


def test_the_random_stratum_goes_in_the_order_of_the_hash_whatever_else_speaks_for_a_clip() -> None:
    chosen = [sample(name, "random", *(["flagged", "rare"] if n % 2 else []), minutes=n) for n, name in enumerate(ONCE[:30])]
    shelf = Shelf(*chosen)
    given = [shelf.work("ana") for _ in chosen]
    assert [one.clip_id for one in given if one] == sorted((one.clip_id for one in chosen), key=lambda clip: sample_rank(clip))
    assert all(one.stratum == "random" for one in chosen)


def sample_rank(clip_id: str) -> str:
    """SHA-256 of the clip id, as the docs say."""
    import hashlib

    return hashlib.sha256(clip_id.encode()).hexdigest()


def test_the_reasons_of_value_take_turns() -> None:
    shelf = Shelf(*(sample(f"{ONCE[n]}", REASONS[n // 10]) for n in range(40)))
    given = [shelf.work("ana") for _ in range(12)]
    assert [one.reasons[0] for one in given if one] == list(REASONS) * 3


def test_within_a_reason_several_reasons_and_then_the_freshest_come_first() -> None:
    old, fresh, double = (
        sample(ONCE[0], "rare", minutes=0), sample(ONCE[1], "rare", minutes=9), sample(ONCE[2], "rare", "uncertain", minutes=0)
    )  # fmt: skip
    shelf = Shelf(old, fresh, double)
    assert [shelf.work("ana") for _ in range(3)] == [double, fresh, old]


def test_an_empty_stratum_gives_its_turn_away() -> None:
    assert is_random_turn(Done(0, 3))
    only_value, only_random = Shelf(*(sample(name, "rare") for name in ONCE[:12])), Shelf(*(sample(name, "random") for name in ONCE[:12]))
    assert all(only_value.work("ana") for _ in range(12))
    assert all(only_random.work("ana") for _ in range(12))
    assert only_value.work("ana") is None


def test_a_sample_that_gets_one_review_is_offered_to_nobody_else() -> None:
    one = sample(ONCE[0])
    assert task_for(one, [label(one, "ana")], "ben") is None
    assert stage_of(one, [label(one, "ana")]) == "settled"


def test_a_second_review_is_for_another_and_settles_what_agrees() -> None:
    one = sample(TWICE[0])
    first = label(one, "ana")
    assert task_for(one, [first], "ana") is None
    second = task_for(one, [first], "ben")
    assert second is not None and second.review == 2 and second.whole
    assert task_for(one, [first, label(one, "ben", review=2)], "cleo") is None


def test_a_disagreement_goes_to_a_third_with_the_windows_in_dispute_alone() -> None:
    one = sample(TWICE[0], windows=3)
    said = [label(one, "ana", window=n) for n in range(3)]
    said += [label(one, "ben", "species" if n == 1 else "nothing", window=n, review=2) for n in range(3)]
    assert task_for(one, said, "ana") is None
    assert task_for(one, said, "ben") is None
    third = task_for(one, said, "cleo")
    assert third is not None
    assert (third.review, third.windows) == (3, ((5.0, 10.0),))
    assert stage_of(one, said) == "third"
    said.append(label(one, "cleo", "unknown", window=1, review=3))
    assert task_for(one, said, "dora") is None
    assert settle(said)[one.clip_id, 5.0].verdict == "unknown"


def test_a_disagreement_comes_before_other_samples_of_its_reason() -> None:
    fresh = sample(ONCE[0], "flagged", "rare", minutes=99)
    disputed = sample(TWICE[0], "flagged")
    labels = {disputed.clip_id: [label(disputed, "ana"), label(disputed, "ben", "unknown", review=2)], fresh.clip_id: []}
    task = next_task([(one, labels[one.clip_id]) for one in (fresh, disputed)], "cleo", nobody)
    assert task is not None and task.sample == disputed


def test_what_is_left_of_a_sample_is_asked_of_whoever_has_not_judged_it() -> None:
    one = sample(ONCE[0], windows=2)
    said = [label(one, "ana", window=0)]
    mine, others = task_for(one, said, "ana"), task_for(one, said, "ben")
    assert mine is not None and others is not None
    assert mine.windows == others.windows == ((5.0, 10.0),)


def test_a_leased_sample_is_one_labelers_until_the_lease_runs_out() -> None:
    clock = [0.0]
    leases = Leases(lambda: clock[0])
    first, other = sample(ONCE[0], minutes=1), sample(ONCE[1])
    view: list[tuple[Sample, list[ClipLabelled]]] = [(first, []), (other, [])]

    def given(by: str) -> Sample | None:
        task = next_task(view, by, leases.holder)
        if task is not None:
            leases.take(task.sample.clip_id, by)
        return task.sample if task else None

    assert given("ana") == first
    assert given("ana") == first, "a page that is loaded again shows the same sample"
    assert given("ben") == other
    assert given("cleo") is None
    clock[0] = LEASE_S + 1
    assert given("cleo") == first


def test_who_takes_another_sample_gives_the_first_back() -> None:
    leases = Leases()
    leases.take("a", "ana")
    leases.take("b", "ana")
    assert (leases.holder("a"), leases.holder("b")) == (None, "ana")
    leases.release("ana")
    assert leases.holder("b") is None


def test_the_share_of_second_reviews_is_as_said_and_independent_of_the_hash_order() -> None:
    clips = [str(uuid5(NAMESPACE, f"clip {n}")) for n in range(4000)]
    share = sum(map(wants_second, clips)) / len(clips)
    assert share == pytest.approx(SECOND_SHARE, abs=0.025)
    early = sorted(clips, key=sample_rank)[:1000]
    assert sum(map(wants_second, early)) / 1000 == pytest.approx(SECOND_SHARE, abs=0.05)


def test_windows_follow_from_where_the_sound_begins() -> None:
    import dataclasses

    one = dataclasses.replace(sample("a"), start_s=20.0, end_s=30.0)
    assert one.windows == ((20.0, 25.0), (25.0, 30.0))
    assert dataclasses.replace(one, end_s=None).windows == ((20.0, 25.0),)
