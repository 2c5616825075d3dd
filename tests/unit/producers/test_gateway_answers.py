"""No answer is missed, none is forgotten too early, and a prediction is never replaced by a death."""

from __future__ import annotations

from producers.gateway.answers import Answers, Known


def predicted(size: int = 1) -> Known:
    return Known("predicted", "el-silencio", [], b"x" * size)


async def test_an_answer_that_comes_before_the_acknowledgement_is_not_missed() -> None:
    answers, answer = Answers(), predicted()
    with answers.expect("a") as first, answers.expect("a") as second:
        answers.arrived("a", answer)
        answers.queued("a", "el-silencio", None)  # the acknowledgement comes later
        assert first.result() is answer and second.result() is answer
    assert answers.get("a") is answer


async def test_a_waiter_leaves_nothing_behind() -> None:
    answers = Answers()
    with answers.expect("a") as future:
        pass
    assert future.cancelled()
    answers.arrived("a", predicted())
    assert answers._waiting == {}


async def test_a_death_does_not_replace_a_prediction_and_a_later_prediction_replaces_both() -> None:
    answers, first, second = Answers(), predicted(), predicted()
    answers.arrived("a", first)
    answers.arrived("a", Known("dead", "el-silencio"))
    assert answers.get("a") is first
    answers.arrived("a", second)
    assert answers.get("a") is second


async def test_a_dead_clip_is_queued_again() -> None:
    answers, dead = Answers(), Known("dead", "el-silencio")
    answers.arrived("a", dead)
    answers.queued("a", "el-silencio", dead)
    found = answers.get("a")
    assert found is not None and found.state == "queued"


async def test_what_was_read_back_does_not_replace_what_came_since() -> None:
    answers, newer = Answers(), predicted()
    answers.arrived("a", newer)
    answers.learned("a", predicted())
    assert answers.get("a") is newer
    answers.queued("b", "el-silencio", None)
    answers.learned("b", newer)
    assert answers.get("b") is newer


async def test_the_oldest_are_forgotten_by_count_and_by_bytes() -> None:
    few = Answers(kept=2)
    for name in "abc":
        few.arrived(name, predicted())
    assert [few.get(name) is None for name in "abc"] == [True, False, False]
    small = Answers(kept_bytes=10)
    small.arrived("a", predicted(6))
    small.arrived("b", predicted(6))
    small.arrived("b", predicted(7))
    assert [small.get(name) is None for name in "ab"] == [True, False]
    small.arrived("a", predicted(3))
    assert [small.get(name) is None for name in "ab"] == [False, False]
