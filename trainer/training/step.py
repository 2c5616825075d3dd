"""One step of training: in what precision, in how many parts, what is kept for the way back, and who moves the weights."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from trainer.members.models import is_block
from trainer.training.plan import Plan

MOMENTUM, SGD_DECAY = 0.9, 1e-4
"""As ResNet was trained (He et al. 2016, section 3.4)."""


class Step:
    """A network under training, with the running average of its weights."""

    def __init__(self, net: nn.Module, plan: Plan, device: str = "cpu") -> None:
        self.plan, self.device = plan, torch.device(device)
        self.net = net.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.average = AveragedModel(self.net, multi_avg_fn=_Ramped(plan.average), use_buffers=True)
        if plan.checkpointing:
            checkpointed(self.net)
        self.optimizer = optimizer_of(self.net.parameters(), plan)
        self._half = {"on": True, "off": False}.get(plan.half)

    def take(self, window: Tensor, truth: Tensor, weight: Tensor, rate: float) -> float:
        """Learn from a batch: windows (batch, n_mels, frames), truth and weight (batch, labels), float32; its mean loss."""
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        parts = self.plan.accumulate
        if self._half is None:
            self._half = half_is_faster(self.net, window[: len(window) // parts].to(self.device))
        self.optimizer.zero_grad(set_to_none=True)
        total = 0.0
        for one in zip(*(tensor.chunk(parts) for tensor in (window, truth, weight)), strict=True):
            heard, wanted, counts = (tensor.to(self.device) for tensor in one)
            with torch.autocast(self.device.type, torch.bfloat16, enabled=self._half):
                logits = self.net(heard).float()
            loss = loss_of(logits, wanted, counts, self.plan.smoothing) / parts
            loss.backward()  # type: ignore[no-untyped-call]
            total += loss.item()
        nn.utils.clip_grad_norm_(self.net.parameters(), self.plan.clip)
        self.optimizer.step()
        self.average.update_parameters(self.net)
        return total


def loss_of(logits: Tensor, truth: Tensor, weight: Tensor, smoothing: float) -> Tensor:
    """Mean binary cross-entropy against smoothed truth; all (batch, labels)."""
    wanted = truth * (1 - 2 * smoothing) + smoothing
    return (nn.functional.binary_cross_entropy_with_logits(logits, wanted, reduction="none") * weight).mean()


def optimizer_of(parameters: Iterable[nn.Parameter], plan: Plan) -> torch.optim.Optimizer:
    """The plan's optimizer of those that are trained: AdamW keeps two numbers a weight beside its gradient, SGD one."""
    parameters = [parameter for parameter in parameters if parameter.requires_grad]
    if plan.optimizer == "sgd":
        return torch.optim.SGD(parameters, lr=plan.rate, momentum=MOMENTUM, nesterov=True, weight_decay=SGD_DECAY)
    return torch.optim.AdamW(parameters, lr=plan.rate, weight_decay=plan.decay)


def checkpointed(net: nn.Module) -> None:
    """Let each block of a network keep its input alone and compute the rest again on the way back; names of weights stay."""
    from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import apply_activation_checkpointing, checkpoint_wrapper

    def wrapped(block: nn.Module) -> nn.Module:
        return checkpoint_wrapper(block, context_fn=lambda: (contextlib.nullcontext(), _uncounted(block)))

    apply_activation_checkpointing(net, checkpoint_wrapper_fn=wrapped, check_fn=is_block)


@contextlib.contextmanager
def _uncounted(block: nn.Module) -> Iterator[None]:
    """What is computed again was counted by the batch norms already."""
    norms = [(norm, norm.momentum) for norm in block.modules() if isinstance(norm, nn.BatchNorm2d)]
    for norm, _ in norms:
        norm.momentum = 0.0
    try:
        yield
    finally:
        for norm, momentum in norms:
            norm.momentum = momentum


class _Ramped:
    """An exponential average that forgets its beginning: a short run would otherwise be judged by its first steps."""

    def __init__(self, limit: float) -> None:
        self._limit = limit

    def __call__(self, averaged: Any, current: Any, updates: Any) -> None:
        decay = min(self._limit, 1.0 - 10.0 / (int(updates) + 10.0))
        get_ema_multi_avg_fn(decay)(averaged, current, updates)  # type: ignore[no-untyped-call]


def half_is_faster(net: nn.Module, window: Tensor) -> bool:
    """Whether this processor runs the network faster in bfloat16; processors without it only emulate it."""
    if window.is_cuda:
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))

    def took(half: bool) -> float:
        times = []
        for _ in range(3):
            began = time.process_time()
            with torch.autocast("cpu", torch.bfloat16, enabled=half):
                net(window).float().mean().backward()
            times.append(time.process_time() - began)
        return min(times)

    buffers = {name: value.clone() for name, value in net.named_buffers()}
    faster = took(True) < took(False)
    for name, value in net.named_buffers():
        value.copy_(buffers[name])
    return faster
