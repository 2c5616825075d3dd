"""`soundscape bench fsdp`: ResNet-50 sharded over 1, 2, 4 workers at a fixed global batch: time, memory, and whether it trains the same."""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path
from typing import Any

import click

from soundscape.errors import Broken
from soundscape.settings import Settings, get_settings
from soundscape.terminal import terminal_width

MODEL = "resnet50"
"""It draws nothing by chance in training, so that its steps are the same on any number of workers."""
TOLERANCE = 0.01
"""By which the losses after the last step may differ, as a share: float32 sums in another order, amplified by each step (AdamW's first
ones, which go by the gradient's sign, amplify more than SGD's)."""


class Counts(click.ParamType):
    """Numbers of workers, as 1,2,4."""

    name = "numbers"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, ...]:
        """In order, each once."""
        try:
            counts = tuple(sorted({int(one) for one in value.split(",")})) if isinstance(value, str) else tuple(value)
        except ValueError:
            counts = ()
        if not counts or counts[0] < 1 or counts[-1] > 64:
            self.fail(f"{value!r} is no list of numbers from 1 to 64, as 1,2,4.", param, ctx)
        return counts


@click.command()
@click.option("--workers", default="1,2,4", show_default=True, type=Counts(), help="How many, one after the other.")
@click.option("--global-batch", default=16, show_default=True, type=click.IntRange(2, 4096), help="Windows a step, all workers together.")
@click.option("--steps", default=6, show_default=True, type=click.IntRange(2, 1000), help="The first is not timed.")
@click.option("--optimizer", default="sgd", show_default=True, type=click.Choice(["adamw", "sgd"]))
@click.option("--json", "as_json", is_flag=True, help="For machines.")
def fsdp(workers: tuple[int, ...], global_batch: int, steps: int, optimizer: str, as_json: bool) -> None:
    """FSDP2 on 1, 2, 4 Ray workers at a fixed global batch: time a step, peak memory a worker, losses that agree; a table and a plot."""
    from rich.console import Console
    from rich.table import Table

    if uneven := [n for n in workers if global_batch % n]:
        raise click.UsageError(f"A global batch of {global_batch} does not part evenly among {uneven[0]} workers.")
    settings = get_settings()
    rows = run(settings, workers, {"batch": global_batch, "steps": steps, "optimizer": optimizer})
    cores, where = len(os.sched_getaffinity(0)), "GPUs" if settings.ray_gpus else "cores"
    name = f"fsdp-{global_batch}x{steps}-{'-'.join(map(str, workers))}.png"
    said = f"{MODEL}, {global_batch} windows a step in all" + ("" if settings.ray_gpus else f", on {cores} cores that all workers shared")
    plot = draw(rows, said, settings.root / "benches" / name)
    ends = [one["loss"] for one in rows.values()]
    apart = (max(ends) - min(ends)) / max(ends)
    if as_json:
        click.echo(json.dumps({"model": MODEL, "batch": global_batch, "cores": cores, "where": where, "workers": rows,
                               "losses_apart": apart, "plot": str(plot)}))  # fmt: skip
    else:
        table = Table("workers", "windows each", "ms a step (median)", "windows/s", "peak MB a worker", "of it before the network",
                      "first loss", f"loss after {steps} steps", title=said)  # fmt: skip
        for n, one in rows.items():
            speed = f"{global_batch / one['step_ms'] * 1000:.1f}"
            sizes = [f"{one[name]:.0f}" for name in ("peak_mb", "before_mb")]
            losses = [f"{one[name]:.5f}" for name in ("first_loss", "loss")]
            table.add_row(str(n), str(global_batch // n), f"{one['step_ms']:.0f}", speed, *sizes, *losses)
        Console(width=terminal_width()).print(table)
        click.echo(plot)
    if apart > TOLERANCE:
        raise Broken(f"The losses differ by {apart:.2%}, more than {TOLERANCE:.0%}: this is not the same training.")
    click.echo(f"The losses after {steps} steps agree within {apart:.3%} ({TOLERANCE:.0%} allowed): the same training.", err=as_json)


def run(settings: Settings, workers: tuple[int, ...], config: dict[str, Any]) -> dict[int, dict[str, float]]:
    """What the slowest and largest worker of each number of workers took.

    Raises Invalid, Unavailable, Broken as `trainer.training.ray_run.fit`."""
    from trainer.training.cluster import Request, address_of, cluster, named, require, require_gpu

    require_gpu(settings)
    address, request = address_of(settings), Request.of(settings)
    rows: dict[int, dict[str, float]] = {}
    runs = settings.root / "benches"
    runs.mkdir(parents=True, exist_ok=True)
    cores = max(len(os.sched_getaffinity(0)), max(workers))  # more workers than cores share them: that is said
    with cluster(address, cores=cores) as ray:
        from ray.train import RunConfig, ScalingConfig
        from ray.train.torch import TorchConfig, TorchTrainer

        from trainer.training.sharded import work

        require(ray, request, named(address))
        for n in workers:
            click.echo(f"{n} worker{'s' * (n > 1)} ...", err=True)
            with tempfile.TemporaryDirectory(dir=runs) as here:
                try:
                    result = TorchTrainer(
                        work,
                        train_loop_config={**config, "model": MODEL, "device": "cuda" if request.gpus else "cpu"},
                        torch_config=TorchConfig(backend="nccl" if request.gpus else "gloo"),
                        scaling_config=ScalingConfig(num_workers=n, use_gpu=request.gpus > 0, resources_per_worker=request.resources()),
                        run_config=RunConfig(name=f"fsdp-{n}", storage_path=here),
                    ).fit()
                except (ray.exceptions.RayError, ray.train.TrainingFailedError) as error:
                    raise Broken(f"With {n} workers it failed: {str(error).strip().splitlines()[-1]}") from error
            rows[n] = {name: float(value) for name, value in result.metrics.items() if isinstance(value, (int, float))}
    return rows


def draw(rows: dict[int, dict[str, float]], title: str, path: Path) -> Path:
    """Time a step and peak memory a worker against workers, as a PNG."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.6), layout="constrained")
    figure.suptitle(title, fontsize=10)
    counts = list(rows)
    for axes, what, label in zip(figure.subplots(1, 2), ("step_ms", "peak_mb"), ("ms a step (median)", "peak MB a worker"), strict=True):
        axes.plot(counts, [rows[n][what] for n in counts], "o-", color="#2f7d5b", label=label)
        if what == "peak_mb":
            axes.plot(counts, [rows[n]["before_mb"] for n in counts], "o--", color="#6b7c73", label="before the network")
            axes.legend(frameon=False)
        axes.set(xlabel="workers", ylabel=label, xticks=counts, ylim=(0, None))
        axes.grid(color="#dfe7e1")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)
    return path
