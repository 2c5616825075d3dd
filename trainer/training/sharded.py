"""A network sharded over workers by FSDP2: what each worker of `soundscape bench fsdp` does."""

from __future__ import annotations

import json
import os
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

SLOW = 0.1
"""Of the optimizer's rate, as a training begins: at the full one the first steps amplify what rounding differs by."""


class SharedNorm(nn.BatchNorm2d):
    """Batch norm over the whole batch, wherever its parts are: the step is then the same on any number of workers.

    torch's SyncBatchNorm does it on GPUs alone. Each worker's part must be as large as the others'.
    """

    def forward(self, x: Tensor) -> Tensor:
        """The same shape, (part, channels, height, width)."""
        from torch.distributed import get_world_size
        from torch.distributed.nn.functional import all_reduce

        mean, square = all_reduce(torch.stack([x.mean((0, 2, 3)), x.square().mean((0, 2, 3))])) / get_world_size()  # type: ignore[no-untyped-call]
        variance = square - mean.square()
        scale = self.weight * torch.rsqrt(variance + self.eps)
        out: Tensor = x * scale[:, None, None] + (self.bias - mean * scale)[:, None, None]
        return out


def shared(net: nn.Module) -> nn.Module:
    """The network with every batch norm a SharedNorm; its running statistics are not kept up."""
    for name, child in net.named_children():
        if isinstance(child, nn.BatchNorm2d):
            other = SharedNorm(child.num_features, child.eps)
            other.load_state_dict(child.state_dict())
            setattr(net, name, other)
        else:
            shared(child)
    return net


def work(config: dict[str, Any]) -> None:
    """One worker: its part of each batch of `config["batch"]` windows, `config["steps"]` times; every worker reports, as Ray Train asks.

    Reported: ms a step (median without the first), peak memory in MB and that before the network, the mean loss over all workers of
    the first and of the last step.
    """
    import torch.distributed as dist
    from ray import train
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    from trainer.members.models import build, is_block
    from trainer.training.bench_memory import LABELS, made_batches, peak_mb
    from trainer.training.plan import RATES, chosen_plan
    from trainer.training.step import loss_of, optimizer_of

    rank, workers, device = dist.get_rank(), dist.get_world_size(), config["device"]
    torch.set_num_threads(max(1, len(os.sched_getaffinity(0)) // train.get_context().get_local_world_size()))
    rate = RATES[config["optimizer"]] * SLOW
    plan = chosen_plan(config["model"], 1.0, batch=config["batch"], optimizer=config["optimizer"], rate=rate)
    batches = made_batches(plan.batch, config["steps"])
    before = peak_mb(device)
    torch.manual_seed(0)  # the same weights everywhere, whatever the number of workers
    net = shared(build(plan.model, LABELS)).to(device)  # not channels_last as elsewhere: FSDP takes no such weights
    mesh = init_device_mesh(device, (workers,))
    for module in [*(one for one in net.modules() if is_block(one)), net]:
        fully_shard(module, mesh=mesh)
    optimizer = optimizer_of(net.parameters(), plan)
    net.train()
    times, losses = [], []
    for batch in batches:
        window, truth, weight = (tensor.chunk(workers)[rank].to(device) for tensor in batch)
        began = time.monotonic()
        loss = loss_of(net(window), truth, weight, plan.smoothing)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(net.parameters(), plan.clip)
        optimizer.step()
        mean = loss.detach().clone()
        dist.all_reduce(mean)
        losses.append(mean.item() / workers)
        times.append(time.monotonic() - began)
    mine = torch.tensor([statistics.median(times[1:]) * 1000, peak_mb(device), before], dtype=torch.float64, device=device)
    worst = mine.clone()
    dist.all_reduce(worst, op=dist.ReduceOp.MAX)
    step_ms, peak, first = worst.tolist()
    found = {"step_ms": step_ms, "peak_mb": peak, "before_mb": first, "first_loss": losses[0], "loss": losses[-1]}
    with tempfile.TemporaryDirectory() as here:  # Ray gives no metrics back without a checkpoint
        (Path(here) / "found.json").write_text(json.dumps(found), encoding="utf-8")
        train.report(found, checkpoint=train.Checkpoint.from_directory(here) if rank == 0 else None)
