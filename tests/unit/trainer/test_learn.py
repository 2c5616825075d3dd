"""Training that was killed goes on where its last checkpoint was."""

from __future__ import annotations

import io
from dataclasses import replace

import pytest
import torch

from trainer import store
from trainer.learn import Learner, Plan
from trainer.prepare import prepare
from trainer.testing import write_folder

PLAN = Plan(model="small", minutes=0.02, batch=4)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> store.Prepared:
    home = tmp_path_factory.mktemp("learn")
    return prepare(write_folder(home / "data", clips=2, seconds=1.0, minutes=0), home / "datasets", lambda _: None, children=0)[0]


def test_a_restored_run_has_the_weights_the_optimizer_and_the_time_of_the_killed_one(prepared: store.Prepared) -> None:
    killed = Learner(prepared.folder, PLAN, composers=0)
    killed.run_epoch()
    kept = io.BytesIO()
    torch.save(killed.state(), kept)
    killed.close()
    again = Learner(prepared.folder, PLAN, composers=0)
    assert again.restore(torch.load(io.BytesIO(kept.getvalue()), weights_only=True))
    assert (again.elapsed, again.steps, again.epoch) == (killed.elapsed, killed.steps, 1)
    for one, other in zip(again.average.parameters(), killed.average.parameters(), strict=True):
        assert torch.equal(one, other)
    again.run_epoch()
    again.close()
    assert again.epoch == 2 and again.steps > killed.steps and again.elapsed > killed.elapsed


def test_a_checkpoint_of_another_plan_is_not_gone_on_with(prepared: store.Prepared) -> None:
    learner = Learner(prepared.folder, PLAN, composers=0)
    before = [parameter.clone() for parameter in learner.net.parameters()]
    other = Learner(prepared.folder, replace(PLAN, seed=1), composers=0)
    assert not learner.restore(other.state())
    assert all(torch.equal(one, now) for one, now in zip(before, learner.net.parameters(), strict=True))
