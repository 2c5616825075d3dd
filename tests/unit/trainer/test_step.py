"""What saves memory leaves the step what it was."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from trainer.members.models import build
from trainer.training.plan import Plan
from trainer.training.sharded import SharedNorm, shared
from trainer.training.step import Step

PLAN = Plan("resnet50", 1.0, batch=4, half="off")


def _taken(plan: Plan, net: nn.Module, steps: int = 1) -> Step:
    """The step after it was taken on the same batch."""
    torch.manual_seed(1)
    window, truth = torch.rand(4, 64, 64), (torch.rand(4, 3) < 0.5).float()
    step = Step(net, plan)
    step.net.train()
    for _ in range(steps):
        step.take(window, truth, torch.ones(4, 3), plan.rate)
    return step


def _linear() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(64 * 64, 3))


def _resnet() -> nn.Module:
    torch.manual_seed(0)
    return build("resnet50", 3)


def test_a_batch_in_parts_is_the_same_step() -> None:
    whole, parts = (_taken(replace(PLAN, accumulate=n), _linear(), 3).net.state_dict() for n in (1, 4))
    for name, value in whole.items():
        torch.testing.assert_close(parts[name], value)


def test_activations_computed_again_give_the_same_weights_and_statistics_by_the_same_names() -> None:
    kept, again = _taken(PLAN, _resnet()), _taken(replace(PLAN, checkpointing=True), _resnet())
    assert list(kept.net.state_dict()) == list(again.net.state_dict())
    for name, value in kept.net.state_dict().items():
        if not name.endswith("num_batches_tracked"):
            torch.testing.assert_close(again.net.state_dict()[name], value)
    assert list(again.average.module.state_dict()) == list(kept.net.state_dict()), "what is exported is the plain network"


@pytest.mark.parametrize(("optimizer", "numbers"), [("adamw", 2), ("sgd", 1)])
def test_an_optimizer_keeps_so_many_numbers_a_weight(optimizer: str, numbers: int) -> None:
    net = _linear()
    kept = _taken(replace(PLAN, optimizer=optimizer), net).optimizer.state_dict()["state"].values()
    sizes = [value.numel() for one in kept for value in one.values() if value is not None and value.dim()]
    assert sum(sizes) == numbers * sum(parameter.numel() for parameter in net.parameters())


def test_a_shared_norm_of_one_worker_is_a_batch_norm(tmp_path: Path) -> None:
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path / 'met'}", rank=0, world_size=1)
    try:
        norm = nn.BatchNorm2d(4)
        nn.init.uniform_(norm.weight)
        plain = nn.Sequential(nn.Conv2d(1, 4, 3), norm)
        x = torch.rand(3, 1, 9, 7)
        wanted = plain(x)
        found = shared(plain)(x)
        assert isinstance(plain[1], SharedNorm)
        torch.testing.assert_close(found, wanted)
    finally:
        torch.distributed.destroy_process_group()
