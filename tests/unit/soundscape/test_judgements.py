"""Which judgements stand, what they settle, and how well two labelers agree."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid5

import pytest

from soundscape.events import NAMESPACE, ClipLabelled, FeedbackGiven, Place
from soundscape.judgements import blind_pairs, kappa, settle, standing_feedback, standing_labels

CLIP = uuid5(NAMESPACE, "clip")
NOW = datetime(2026, 3, 1, 6, tzinfo=UTC)


def label(by: str, verdict: str = "species", *labels: str, label_id: str = "", start_s: float = 0.0, **fields: Any) -> ClipLabelled:
    """A label of a window of CLIP; its id follows from labeler and window unless given."""
    said: dict[str, Any] = {
        "label_id": label_id or f"{by}-{start_s:g}",
        "clip_id": CLIP,
        "stream": "tour",
        "site": "s",
        "start_s": start_s,
        "end_s": start_s + 5,
        "verdict": verdict,
        "labels": labels,
        "by": by,
        "provenance": "page",
        "labelled_at": NOW,
    }
    return ClipLabelled(**(said | fields))


def test_the_latest_of_a_label_stands_and_a_withdrawn_one_does_not() -> None:
    first, other = label("ana", "species", "frog"), label("ben", "nothing")
    edited = label("ana", "species", "owl")
    assert standing_labels([first, other, edited]) == [other, edited]
    assert standing_labels([first, other, edited, label("ana", "withdrawn")]) == [other]
    assert standing_labels([first, label("ana", "withdrawn"), edited]) == [edited]


def test_the_same_holds_for_feedback() -> None:
    place = Place(topic="clips", partition=0, offset=0)

    def given(name: str, verdict: Any) -> FeedbackGiven:
        return FeedbackGiven(
            feedback_id=name, clip_id=CLIP, stream="tour", site="s", verdict=verdict, release="r",
            clip_place=place, answer_place=place, by="guide", given_at=NOW,
        )  # fmt: skip

    right, wrong = given("a", "right"), given("a", "wrong")
    assert standing_feedback([right, given("b", "unknown"), wrong, given("b", "withdrawn")]) == [wrong]


def test_one_label_stands_as_experts() -> None:
    (one,) = settle([label("ana", "species", "frog", "owl", stratum="random")]).values()
    assert (one.clip_id, one.start_s, one.end_s, one.verdict) == (str(CLIP), 0.0, 5.0, "species")
    assert one.labels == {"frog", "owl"}
    assert (one.provenance, one.stratum, one.by) == ("expert", "random", ("ana",))


def test_two_that_agree_are_agreed_in_whatever_order_the_labels_stand() -> None:
    (one,) = settle([label("ana", "species", "frog", "owl"), label("ben", "species", "owl", "frog", review=2)]).values()
    assert (one.provenance, one.by) == ("agreed", ("ana", "ben"))


@pytest.mark.parametrize("third, provenance, by", [("owl", "agreed", ("ben", "cleo")), ("toad", "expert", ("cleo",))])
def test_two_that_disagree_wait_for_a_third_who_decides(third: str, provenance: str, by: tuple[str, ...]) -> None:
    two = [label("ana", "species", "frog"), label("ben", "species", "owl", review=2)]
    assert settle(two) == {}
    (one,) = settle([*two, label("cleo", "species", third, review=3)]).values()
    assert one.labels == {third}
    assert one.provenance == provenance
    assert one.by == by


def test_who_agreed_is_not_overruled_by_a_later_one() -> None:
    said = [label("ana", "nothing"), label("ben", "nothing", review=2), label("cleo", "species", "frog", review=3)]
    for order in itertools.permutations(said):
        (one,) = settle(order).values()
        assert (one.verdict, one.provenance) == ("nothing", "agreed")


def test_a_third_that_was_withdrawn_leaves_the_window_open() -> None:
    said = [label("ana", "nothing"), label("ben", "unknown", review=2), label("cleo", "nothing", review=3)]
    assert settle(said) != {}
    assert settle([*said, label("cleo", "withdrawn", review=3)]) == {}


def test_one_labeler_has_one_voice() -> None:
    (one,) = settle([label("ana", "species", "frog"), label("ana", "species", "owl", label_id="import")]).values()
    assert one.labels == {"owl"}
    assert one.provenance == "expert"


def test_a_voice_is_believed_at_once() -> None:
    said = [label("ana", "nothing"), label("ben", "speech", review=2)]
    (one,) = settle(said).values()
    assert (one.verdict, one.by) == ("speech", ("ben",))
    (one,) = settle([*said, label("cleo", "nothing", review=3)]).values()
    assert one.verdict == "speech"


def test_windows_are_settled_each_by_itself() -> None:
    found = settle([label("ana", "nothing"), label("ana", "species", "frog", start_s=5), label("ben", "unknown", start_s=5, review=2)])
    assert list(found) == [(str(CLIP), 0.0)]


def test_kappa_is_cohens() -> None:
    said = ["frog", "frog", "owl", "owl", "owl", "frog", "nothing", "owl"]
    other = ["frog", "owl", "owl", "owl", "frog", "frog", "nothing", "owl"]
    pairs = [("ben", a, "ana", b) for a, b in zip(said, other, strict=True)]
    n = len(said)
    observed = sum(a == b for a, b in zip(said, other, strict=True)) / n
    chance = sum(said.count(one) * other.count(one) for one in set(said)) / n**2
    found = kappa(pairs)
    assert list(found) == [("ana", "ben")]
    value, windows = found["ana", "ben"]
    assert value == pytest.approx((observed - chance) / (1 - chance))
    assert windows == n


def test_kappa_of_those_who_always_say_the_same_is_one() -> None:
    assert kappa([("a", "nothing", "b", "nothing")] * 3) == {("a", "b"): (1.0, 3)}
    assert kappa([]) == {}


def test_only_first_and_second_reviews_are_compared() -> None:
    windows = [
        label("ben", "species", "owl", "frog"),
        label("ana", "species", "frog", "owl", review=2),
        label("ben", "nothing", start_s=5),
        label("ana", "unknown", start_s=5, review=2),
        label("cleo", "nothing", start_s=5, review=3),
        label("ben", "nothing", start_s=10),
    ]
    assert list(blind_pairs(windows)) == [
        ("ana", "species frog owl", "ben", "species frog owl"),
        ("ana", "unknown", "ben", "nothing"),
    ]


def test_labels_of_two_clips_do_not_meet() -> None:
    other = UUID(int=7)
    assert len(settle([label("ana", "nothing"), label("ben", "unknown", clip_id=other)])) == 2
