"""`soundscape bench memory`: peak memory and time of a step of training for each choice of its plan, each in a process of its own."""

from __future__ import annotations

import json
import multiprocessing
import os
import statistics
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import click

LABELS = 206
"""Of BirdCLEF 2025."""
CHOICES: dict[str, dict[str, Any]] = {
    "AdamW": {},
    "SGD": {"optimizer": "sgd"},
    "AdamW, 4 parts": {"accumulate": 4},
    "AdamW, activations computed again": {"checkpointing": True},
    "AdamW, bfloat16": {"half": "on"},
    "all four: SGD, 4 parts, again, bfloat16": {"optimizer": "sgd", "accumulate": 4, "checkpointing": True, "half": "on"},
}
"""One thing at a time, then all; float32 unless said."""
ADAPTED = {"AdamW, LoRA": {"adapt": "lora"}}
"""Measured too where SOUNDSCAPE_IMAGENET names the weights that it needs."""


@click.command()
@click.option("--model", default="resnet50", show_default=True, help="resnet50, efficientnet_b0.")
@click.option("--batch", default=16, show_default=True, type=click.IntRange(4, 512), help="Windows a step; a multiple of 4.")
@click.option("--steps", default=4, show_default=True, type=click.IntRange(2, 100), help="The first is not counted.")
@click.option("--gpu", is_flag=True, help="On a GPU, and of its memory.")
@click.option("--json", "as_json", is_flag=True, help="For machines.")
def memory(model: str, batch: int, steps: int, gpu: bool, as_json: bool) -> None:
    """Peak memory and time a step of training by optimizer, parts, kept activations and precision, each in its own process."""
    from rich.console import Console
    from rich.table import Table

    from soundscape.settings import get_settings
    from soundscape.terminal import terminal_width
    from trainer.training.cluster import require_gpu
    from trainer.training.plan import chosen_plan

    if gpu:
        require_gpu(get_settings().model_copy(update={"ray_gpus": 1, "ray_address": None}))
    choices = {**CHOICES, **(ADAPTED if model == "efficientnet_b0" and get_settings().imagenet else {})}
    for choice in choices.values():
        chosen_plan(model, 1.0, batch=batch, **choice)  # what does not hold is said before the work
    rows = {}
    for name, choice in choices.items():
        with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as alone:
            rows[name] = alone.submit(measure, model, batch, steps, {"half": "off", **choice}, "cuda" if gpu else "cpu").result()
        click.echo(f"{name}: {rows[name]['peak_mb']:.0f} MB, {rows[name]['step_ms']:.0f} ms a step", err=True)
    cores = len(os.sched_getaffinity(0))
    if as_json:
        click.echo(json.dumps({"model": model, "batch": batch, "cores": cores, "choices": rows}))
        return
    table = Table("choice", "peak MB", "of it before the network", "ms a step (median)", "weights trained", "loss after the last",
                  title=f"{model}, {batch} windows a step, {cores} cores")  # fmt: skip
    for name, one in rows.items():
        whole = (f"{one[what]:,.0f}" for what in ("peak_mb", "before_mb", "step_ms", "trained"))
        table.add_row(name, *whole, f"{one['loss']:.4f}")
    Console(width=terminal_width()).print(table)


def measure(model: str, batch: int, steps: int, choice: dict[str, Any], device: str) -> dict[str, float]:
    """Some steps on random windows, the same for each choice: peak memory in MB, median ms a step without the first, how many weights are
    trained, and the last loss."""
    import torch

    from trainer.members.adapt import LORA, begun
    from trainer.members.models import build
    from trainer.training.plan import chosen_plan
    from trainer.training.step import Step

    plan = chosen_plan(model, 1.0, batch=batch, **choice)
    if plan.adapt == LORA:
        import peft  # noqa: F401  # what its import takes is there before the network
    batches = made_batches(batch, steps)
    before = peak_mb(device)
    torch.manual_seed(0)
    step = Step(begun(build(model, LABELS), plan.adapt), plan, device)
    trained = sum(one.numel() for one in step.net.parameters() if one.requires_grad)
    step.net.train()
    times = []
    for window, truth, weight in batches:
        began = time.monotonic()
        loss = step.take(window, truth, weight, plan.rate)
        times.append(time.monotonic() - began)
    step_ms = statistics.median(times[1:]) * 1000
    return {"peak_mb": peak_mb(device), "before_mb": before, "step_ms": step_ms, "trained": trained, "loss": loss}


def made_batches(batch: int, steps: int) -> list[tuple[Any, Any, Any]]:
    """Random windows (batch, 128, 313), truth and weight (batch, LABELS), float32; the same for the same numbers."""
    import torch

    from soundscape.features import LOG_MEL

    made = torch.Generator().manual_seed(0)
    return [
        (torch.rand((batch, *LOG_MEL.shape), generator=made), (torch.rand((batch, LABELS), generator=made) < 0.01).float(),
         torch.ones((batch, LABELS)))
        for _ in range(steps)
    ]  # fmt: skip


def peak_mb(device: str = "cpu") -> float:
    """Most memory that this process ever had, in MB; of the GPU's where it is on one.

    Not getrusage's: that of a process that was started by a fat one begins with the fat one's.
    """
    if device == "cuda":
        import torch

        return torch.cuda.max_memory_allocated() / 1e6
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024 / 1e6
