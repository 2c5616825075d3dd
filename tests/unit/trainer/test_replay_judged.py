"""What of people's words becomes a row, and with what weight."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime
from typing import Any
from uuid import uuid5

import pytest
from hypothesis import given
from hypothesis import strategies as st

from soundscape.events import NAMESPACE, ClipLabelled, FeedbackGiven, Place
from trainer.replay.judged import WEIGHTS, Piece, wanted

NOW = datetime(2026, 3, 1, 6, tzinfo=UTC)
KNOWN = {"frog", "owl"}
PLACE = Place(topic="clips", partition=0, offset=7)


def clip(name: str) -> str:
    """The id of the clip of that name."""
    return str(uuid5(NAMESPACE, name))


def label(name: str, by: str, verdict: str, *labels: str, start_s: float = 0.0, **fields: Any) -> ClipLabelled:
    """A labeler's word on a window."""
    said: dict[str, Any] = {
        "label_id": f"{by}-{name}-{start_s:g}", "clip_id": clip(name), "stream": "REC", "site": "s", "start_s": start_s,
        "end_s": start_s + 5, "verdict": verdict, "labels": labels, "by": by, "provenance": "page", "labelled_at": NOW,
    }  # fmt: skip
    return ClipLabelled(**(said | fields))


def told(name: str, by: str, verdict: str, *labels: str, heard: tuple[str, ...] = (), **fields: Any) -> FeedbackGiven:
    """A guide's word on a clip."""
    said: dict[str, Any] = {
        "feedback_id": f"{by}-{name}", "clip_id": clip(name), "stream": "tour", "site": "s", "verdict": verdict, "labels": labels,
        "heard": heard, "release": "r", "clip_place": PLACE, "answer_place": PLACE, "by": by, "given_at": NOW,
    }  # fmt: skip
    return FeedbackGiven(**(said | fields))


def test_settled_windows_become_pieces() -> None:
    """One labeler is an expert, two who agree are agreed, `nothing` is a piece without labels, `unknown` is none."""
    found = wanted(
        [
            label("a", "ana", "species", "owl", "frog"),
            label("a", "ana", "nothing", start_s=5.0),
            label("a", "ana", "unknown", start_s=10.0),
            label("b", "ana", "species", "owl"),
            label("b", "ben", "species", "owl", review=2),
        ],
        [],
        {},
        set(),
        KNOWN,
    )
    assert found.pieces == {
        clip("a"): [Piece(0.0, 5.0, ("frog", "owl"), "expert"), Piece(5.0, 10.0, (), "expert")],
        clip("b"): [Piece(0.0, 5.0, ("owl",), "agreed")],
    }
    assert found.left == {"unknown to the labeler": 1}


def test_what_labelers_disagree_on_is_left_out_and_no_guide_or_model_steps_in() -> None:
    found = wanted(
        [label("a", "ana", "species", "owl"), label("a", "ben", "nothing", review=2)],
        [told("a", "guide", "right", heard=("owl",))],
        {clip("a"): [Piece(0.0, 5.0, ("owl",), "pseudo")]},
        set(),
        KNOWN,
    )
    assert found.pieces == {} and found.left == {"labelers disagree": 1}


@pytest.mark.parametrize(
    ("said", "labels", "why"),
    [
        ([told("a", "g", "right", heard=("owl",))], ("owl",), None),
        ([told("a", "g", "species", "frog", heard=("owl",))], ("frog",), None),
        ([told("a", "g", "right", heard=("owl",)), told("a", "h", "species", "owl")], ("owl",), None),
        ([told("a", "g", "right", heard=("owl",)), told("a", "h", "wrong", heard=("owl",))], None, "guides disagree"),
        ([told("a", "g", "right", heard=("owl",)), told("a", "h", "species", "frog")], None, "guides disagree"),
        ([told("a", "g", "wrong", heard=("owl",))], None, "a guide says only what it is not"),
        ([told("a", "g", "unknown")], None, "a guide says only what it is not"),
        ([told("a", "g", "right")], None, "a guide names nothing"),
        ([told("a", "g", "species", "yeti")], None, "species not in the taxonomy"),
        ([told("a", "g", "right", heard=("owl",)), told("a", "g", "withdrawn")], None, None),
    ],
)
def test_a_clip_is_as_its_guides_say_where_they_agree(said: list[FeedbackGiven], labels: tuple[str, ...] | None, why: str | None) -> None:
    """Whole, since a guide judges a clip."""
    found = wanted([], said, {}, set(), KNOWN)
    assert found.pieces == ({clip("a"): [Piece(0.0, None, labels, "guide")]} if labels else {})
    assert found.left == ({why: 1} if why else {})
    assert found.places.get(clip("a"), PLACE) == PLACE


def test_people_outrank_models_and_labelers_outrank_guides() -> None:
    pseudo = {clip(name): [Piece(0.0, 5.0, ("frog",), "pseudo")] for name in "abc"}
    found = wanted([label("a", "ana", "species", "owl")], [told(name, "g", "right", heard=("owl",)) for name in "ab"], pseudo, set(), KNOWN)
    assert {name: [piece.provenance for piece in found.pieces[clip(name)]] for name in "abc"} == {
        "a": ["expert"], "b": ["guide"], "c": ["pseudo"],
    }  # fmt: skip


def test_denied_clips_and_species_beyond_the_taxonomy_are_left_out() -> None:
    """Half a truth would teach that the other half is silent."""
    found = wanted(
        [label("a", "ana", "species", "owl"), label("b", "ana", "species", "owl", "yeti"), label("c", "ana", "speech")],
        [], {clip("d"): [Piece(0.0, 5.0, ("frog",), "pseudo")]}, {clip("a"), clip("c"), clip("d")}, KNOWN,
    )  # fmt: skip
    assert found.pieces == {}
    assert found.left == {"denied": 3, "species not in the taxonomy": 1}


def test_weights_follow_trust() -> None:
    assert WEIGHTS["agreed"] > WEIGHTS["expert"] > WEIGHTS["guide"] > WEIGHTS["pseudo"] > 0


EVENTS = [
    [label("a", "ana", "species", "owl", stream="x"), label("a", "ben", "nothing", review=2, stream="x"),
     label("a", "cem", "nothing", review=3, stream="x")],
    [label("b", "ana", "species", "owl", stream="y"), label("b", "ana", "species", "frog", stream="y")],
    [label("c", "ana", "species", "owl", stream="z"), label("c", "ana", "withdrawn", stream="z"), label("d", "ben", "nothing", stream="z")],
]  # fmt: skip
"""By partition: the order within one is kept, whatever the order between them."""


@given(st.permutations([n for n, part in enumerate(EVENTS) for _ in part]))
def test_the_order_of_partitions_changes_nothing(turns: list[int]) -> None:
    left = [list(part) for part in EVENTS]
    mixed = [left[n].pop(0) for n in turns]
    assert wanted(mixed, [], {}, set(), KNOWN) == wanted([one for part in EVENTS for one in part], [], {}, set(), KNOWN)


def test_a_compacted_log_says_the_same() -> None:
    """Only the last record of each label is left."""
    whole = [one for part in EVENTS for one in part]
    last = {one.label_id: one for one in whole}
    found = wanted(whole, [], {}, set(), KNOWN)
    assert found == wanted(list(last.values()), [], {}, set(), KNOWN)
    assert found.left == Counter()
