"""Work in children: every result is taken or refused, in this process or in others, and a child that dies kills nothing else."""

from __future__ import annotations

import os
from functools import partial

import pytest

from soundscape.errors import Invalid, Reason
from trainer.children import in_children


def _work(n: int) -> tuple[int, int]:
    if n == 3:
        raise Invalid(Reason.TRUNCATED, "It is cut off.")
    return n, os.getpid()


@pytest.mark.parametrize("children", [0, 2])
def test_each_piece_is_taken_or_refused_and_told(children: int) -> None:
    taken: dict[int, tuple[int, int]] = {}
    refused: dict[int, Invalid] = {}
    told: list[tuple[int, int]] = []
    work = {n: partial(_work, n) for n in range(6)}
    in_children(work, taken.__setitem__, refused.__setitem__, lambda n, of: told.append((n, of)), children)
    assert {n: found for n, (found, _) in taken.items()} == {n: n for n in range(6) if n != 3}
    assert refused[3].reason == Reason.TRUNCATED
    assert told == [(n, 6) for n in range(1, 7)]
    assert ({pid for _, pid in taken.values()} == {os.getpid()}) is (children == 0)


def _deadly(word: str) -> str:
    if word == "deadly":
        os._exit(9)
    return word


def test_without_anybody_to_refuse_the_reason_is_raised() -> None:
    taken: list[int] = []
    with pytest.raises(Invalid, match="cut off"):
        in_children({n: partial(_work, n) for n in (1, 3, 4)}, lambda n, _: taken.append(n), children=0)
    assert taken == [1], "and nothing more is done"


def test_a_piece_that_kills_its_child_is_refused_and_its_neighbours_are_not() -> None:
    taken: list[str] = []
    refused: dict[str, Invalid] = {}
    work = {word: partial(_deadly, word) for word in ("deadly", "good")}
    in_children(work, lambda name, _: taken.append(name), refused.__setitem__, children=1)
    assert taken == ["good"] and refused["deadly"].reason == Reason.DECODER_DIED
