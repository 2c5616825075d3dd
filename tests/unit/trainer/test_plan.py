"""A plan keeps its digest while fields are added, and comes back from JSON whole."""

from __future__ import annotations

import json

import pytest

from soundscape.errors import Invalid
from trainer.members.models import STUDENT
from trainer.training.plan import ADDED, RATES, VERSIONS, Plan, chosen_plan


def test_fields_that_came_later_are_told_only_where_they_differ() -> None:
    plain = Plan("small", 20.0).plain()
    assert not set(ADDED) & plain.keys()
    assert Plan("small", 20.0, accumulate=4).plain() == {**plain, "accumulate": 4}


def test_a_network_that_has_changed_makes_another_plan(monkeypatch: pytest.MonkeyPatch) -> None:
    plan = Plan(STUDENT, 1.0)
    before = plan.plain()
    monkeypatch.setitem(VERSIONS, STUDENT, VERSIONS[STUDENT] + 1)
    assert plan.plain() != before and Plan.of(before) == plan
    assert "version" not in Plan("small", 1.0).plain()


@pytest.mark.parametrize("chosen", [{}, {"optimizer": "sgd", "half": "on", "recipe": "crowded"}])
def test_a_plan_comes_back_from_json(chosen: dict[str, str]) -> None:
    plan = chosen_plan("small", 1.0, **chosen)
    assert Plan.of(json.loads(json.dumps(plan.plain()))) == plan


def test_an_optimizer_has_a_rate_of_its_own_unless_one_is_given() -> None:
    assert chosen_plan("small", 1.0, optimizer="sgd").rate == RATES["sgd"] != RATES["adamw"]
    assert chosen_plan("small", 1.0, optimizer="sgd", rate=0.5).rate == 0.5


def test_what_cannot_be_done_is_said() -> None:
    with pytest.raises(Invalid, match="16 does not part into 3"):
        chosen_plan("small", 1.0, accumulate=3)
    with pytest.raises(Invalid, match="small has no blocks"):
        chosen_plan("small", 1.0, checkpointing=True)
    assert chosen_plan("efficientnet_b0", 1.0, checkpointing=True).checkpointing
    with pytest.raises(Invalid, match="--adapt is for efficientnet_b0; small has"):  # not: where its weights are to be had
        chosen_plan("small", 1.0, adapt="full")
