"""A dataset holds nobody's voice: of guides' clips nothing near one, of labelers' windows none in which a release hears one."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest

from soundscape.events import ClipAnalysed, Place, Stages, Window
from trainer.replay.judged import Piece, Wanted
from trainer.replay.voices import NEAR, UNTOLD, VOICE, Voices

NOW = datetime(2026, 3, 1, 6, tzinfo=UTC)
CLIP = str(UUID(int=1))
WHOLE = Piece(0.0, None, ("owl",), "guide")


def answer(spoken: Sequence[float | None]) -> ClipAnalysed:
    """An answer with these scores of speech; None: the release does not tell."""
    return ClipAnalysed(
        clip_id=UUID(CLIP), stream="REC", site="s", place=Place(topic="clips", partition=0, offset=0), release="r", release_digest="d",
        generation=1, feature_fingerprints=("f",), labels=("owl",), detections=(),
        windows=tuple(
            Window(start_s=5.0 * n, end_s=5.0 * n + 5, scores=(0.9,), events={} if score is None else {"speech": score})
            for n, score in enumerate(spoken)
        ),
        stages=Stages(published=NOW, received=NOW, decoded=NOW, features=NOW, inferred=NOW, predicted=NOW),
    )  # fmt: skip


def left(piece: Piece, *answers: Sequence[float | None], untold: bool = False) -> dict[str, int]:
    """Why the piece is left out of a dataset; a voice begins at 0.1."""
    voices, found = Voices(0.1, untold), Wanted({CLIP: [piece]})
    for spoken in answers:
        voices.note(answer(spoken))
    voices.leave_out(found)
    assert found.pieces == ({} if found.left else {CLIP: [piece]})
    return dict(found.left)


@pytest.mark.parametrize(
    ("spoken", "why"),
    [
        ([0.0, 0.05], {}),
        ([0.0, 0.1], {NEAR: 1}),
        ([0.0] * 12 + [0.9], {NEAR: 1}),  # the last window of the first minute is its neighbour
        ([0.0] * 13 + [0.9], {}),  # beyond what is learnt from
        ([None, None], {UNTOLD: 1}),
    ],
)
def test_a_guides_clip_is_dropped_whole(spoken: list[float | None], why: dict[str, int]) -> None:
    assert left(WHOLE, spoken) == why


def test_the_operator_may_let_in_what_no_release_could_tell() -> None:
    assert left(WHOLE) == {UNTOLD: 1}, "no answer is there any more"
    assert left(WHOLE, [None], untold=True) == {}
    assert left(WHOLE, [0.5], untold=True) == {NEAR: 1}


def test_any_answer_that_hears_a_voice_is_believed() -> None:
    for order in ([[0.9], [0.0]], [[0.0], [0.9]], [[0.9], [None]]):
        assert left(WHOLE, *order) == {NEAR: 1}


@pytest.mark.parametrize(("start_s", "why"), [(0.0, {}), (5.0, {VOICE: 1}), (10.0, {})])
def test_a_labelers_window_is_left_out_where_an_answer_hears_a_voice_in_it(start_s: float, why: dict[str, int]) -> None:
    """Beside it a labeler has listened, and heard nobody."""
    piece = Piece(start_s, start_s + 5, ("owl",), "expert")
    assert left(piece, [0.0, 0.5, 0.0], [0.0, 0.0, 0.0]) == why
    assert left(piece, [None, None, None]) == left(piece) == {}


def test_what_models_said_was_looked_at_before() -> None:
    piece: Any = Piece(0.0, 5.0, ("owl",), "pseudo")
    assert left(piece, [0.9]) == {}
