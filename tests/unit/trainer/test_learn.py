"""Training that was killed goes on where its last checkpoint was."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from soundscape.errors import Invalid
from trainer.data import store
from trainer.members.models import build
from trainer.training.learn import Learner, save_weights
from trainer.training.plan import Plan

PLAN = Plan(model="small", minutes=0.02, batch=4)


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


def test_a_checkpoint_of_another_plan_or_network_is_not_gone_on_with(prepared: store.Prepared) -> None:
    learner = Learner(prepared.folder, PLAN, composers=0)
    before = [parameter.clone() for parameter in learner.net.parameters()]
    other = Learner(prepared.folder, replace(PLAN, seed=1), composers=0)
    assert not learner.restore(other.state())
    state = learner.state()
    wider = {name: torch.cat([value, value]) if value.ndim else value for name, value in state["net"].items()}
    assert not learner.restore({**state, "net": wider}), "another network, though the plan is the same"
    assert learner.restore(state)
    assert all(torch.equal(one, now) for one, now in zip(before, learner.net.parameters(), strict=True))


def test_a_training_begins_with_the_weights_of_another_and_the_rows_of_the_labels_that_both_know(
    prepared: store.Prepared, tmp_path: Path
) -> None:
    before = Learner(prepared.folder, PLAN, composers=0).net
    labels = list(prepared.labels)
    kept = [labels[1], "another", labels[0]]
    assert len(kept) == len(labels)
    save_weights(before, kept, tmp_path / "weights.pt")
    after = Learner(prepared.folder, replace(PLAN, seed=5), composers=0, weights=tmp_path / "weights.pt").net
    old, new = before.state_dict(), after.state_dict()
    *body, weight, bias = list(old)
    assert all(torch.equal(old[name], new[name]) for name in body)
    for name in (weight, bias):
        assert torch.equal(new[name][0], old[name][2]) and torch.equal(new[name][1], old[name][0])
        fresh = Learner(prepared.folder, replace(PLAN, seed=5), composers=0).net.state_dict()[name]
        assert torch.equal(new[name][2], fresh[2]), "a label that the other did not know is learnt from the beginning"


def test_weights_of_another_network_or_of_none_are_refused(prepared: store.Prepared, tmp_path: Path) -> None:
    path = tmp_path / "weights.pt"
    wrong = [{"net": {"other": torch.zeros(1)}, "labels": ["a"]}, {"weights": torch.zeros(1)}, [1]]
    for one in wrong:
        torch.save(one, path)
        with pytest.raises(Invalid, match="another network"):
            Learner(prepared.folder, PLAN, composers=0, weights=path)
    save_weights(build("resnet50", len(prepared.labels)), prepared.labels, path)
    with pytest.raises(Invalid, match="another network"):
        Learner(prepared.folder, PLAN, composers=0, weights=path)
    for cut in (path.read_bytes()[:1000], b""):
        path.write_bytes(cut)
        with pytest.raises(Invalid, match="is cut off"):
            Learner(prepared.folder, PLAN, composers=0, weights=path)
