"""`soundscape sweep`: a few plans drawn from a small space, trained side by side by Ray Tune, the worse half given up early."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from soundscape.errors import Broken, Invalid, Reason
from soundscape.settings import Settings, get_settings
from soundscape.terminal import terminal_width

if TYPE_CHECKING:
    from trainer.data.store import Prepared

SPACE: dict[str, tuple[Any, ...]] = {
    "rate": (5e-4, 1e-3, 2e-3, 4e-3, 8e-3),
    "smoothing": (0.0, 0.01, 0.05),
    "recipe": ("composed", "clean", "crowded", "unmasked"),
}
"""What is drawn from, by the names of `soundscape train`'s options."""
JUDGED_BY = "validation_map"


class Trial(NamedTuple):
    """A plan that was tried: its choices, and the metrics of each epoch."""

    chosen: dict[str, Any]
    epochs: list[dict[str, float]]

    @property
    def last(self) -> dict[str, float]:
        """Of its last epoch."""
        return self.epochs[-1]


@click.command()
@click.option("--data", required=True, type=click.Path(path_type=Path, file_okay=False, exists=True), help="As for `soundscape train`.")
@click.option("--model", default="small", show_default=True, help="small, efficientnet_b0, resnet50.")
@click.option("--minutes", default=2.0, show_default=True, type=click.FloatRange(min=0.01), help="For each plan that is not given up.")
@click.option("--trials", default=8, show_default=True, type=click.IntRange(2, 1000), help="Plans to draw.")
@click.option("--to-the-end", is_flag=True, help="Give none up (plain random search instead of ASHA).")
def sweep(data: Path, model: str, minutes: float, trials: int, to_the_end: bool) -> None:
    """Try plans (learning rate, label smoothing, how windows are composed) and rank them; the last line trains by the best."""
    from rich.console import Console
    from rich.table import Table

    from trainer.commands import prepared_of
    from trainer.members.models import HEADS, build

    if model in HEADS:
        raise click.UsageError(f"{model} is a layer on a pretrained model, and has no rate to sweep; name a network.")
    build(model, 2)
    prepared, _ = prepared_of(data)
    found = run(get_settings(), prepared, model, minutes, trials, to_the_end, click.echo)
    table = Table(*SPACE, "epochs", "validation mAP", "AUC", "loss", title=f"{len(found)} plans for {model}, the best first")
    for one in found:
        numbers = [f"{one.last[name]:.3f}" for name in (JUDGED_BY, "validation_auc", "loss")]
        table.add_row(*(f"{value}" for value in one.chosen.values()), str(len(one.epochs)), *numbers)
    Console(width=terminal_width()).print(table)
    best = " ".join(f"--{name} {value}" for name, value in found[0].chosen.items())
    click.echo(f"soundscape train --data {data} --model {model} {best}")


def run(
    settings: Settings, prepared: Prepared, model: str, minutes: float, trials: int, to_the_end: bool, say: Callable[[str], None]
) -> list[Trial]:
    """Every plan that was tried, the best first; those that were given up stand behind those that were not.

    Each is a run under the sweep's in MLflow. Raises Invalid without validation clips, Broken if no plan could be trained, else as `fit`.
    """
    from trainer.data import store
    from trainer.training.tracking import tracked

    if not prepared.of(store.VALIDATION):
        raise Invalid(Reason.BAD_REQUEST, "No clip could be kept to judge by; a sweep needs species with more recordings.")
    with tracked(settings, prepared.folder, f"sweep {prepared.folder.name} {model}", say) as parent:
        parent.tags({"data_digest": prepared.digest, "model": model})
        parent.params({**SPACE, "minutes": minutes, "trials": trials, "scheduler": "none" if to_the_end else "ASHA"})
        found = _tuned(settings, prepared.folder, model, minutes, trials, to_the_end, say)
        for n, one in enumerate(found):
            with tracked(settings, prepared.folder, f"plan {n + 1}", say) as child:
                child.params({**one.chosen, "model": model, "minutes": minutes})
                for metrics in one.epochs:
                    child.metrics(metrics, step=int(metrics["epoch"]))
        parent.metrics({f"best.{name}": value for name, value in found[0].last.items()})
    return found


def _tuned(
    settings: Settings, folder: Path, model: str, minutes: float, trials: int, to_the_end: bool, say: Callable[[str], None]
) -> list[Trial]:
    from trainer.training.cluster import Request, address_of, cluster, named, require
    address, request = address_of(settings), Request.of(settings)
    os.environ["TUNE_DISABLE_SIGINT_HANDLER"] = "1"  # Ctrl-C stays ours
    os.environ["RAY_AIR_NEW_OUTPUT"] = "0"  # what there is to say, we say
    with cluster(address) as ray:
        from ray import tune
        from ray.tune.schedulers import ASHAScheduler, FIFOScheduler
        from ray.tune.search.basic_variant import BasicVariantGenerator

        class Told(tune.Callback):  # type: ignore[misc]
            """Says how each plan ended."""

            def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **_: Any) -> None:
                """One line."""
                last, chosen = trial.last_result, {name: trial.config[name] for name in SPACE}
                say(f"{chosen}: {last.get('elapsed_s', 0):.0f} of {minutes * 60:.0f} s, {JUDGED_BY} {last.get(JUDGED_BY, 0.0):.3f}")

        require(ray, request, named(address))
        scheduler = ASHAScheduler(time_attr="elapsed_s", max_t=minutes * 60, grace_period=minutes * 15, reduction_factor=2)
        results = tune.Tuner(
            tune.with_resources(_trial, request.resources()),
            param_space={
                **{name: tune.choice(values) for name, values in SPACE.items()},
                "folder": str(folder), "model": model, "minutes": minutes, "gpu": request.gpus > 0,
            },
            tune_config=tune.TuneConfig(
                metric=JUDGED_BY, mode="max", num_samples=trials, scheduler=FIFOScheduler() if to_the_end else scheduler,
                search_alg=BasicVariantGenerator(random_state=0),
            ),
            run_config=tune.RunConfig(name=f"sweep-{model}", storage_path=str(folder / "sweeps"), verbose=0, callbacks=[Told()]),
        ).fit()  # fmt: skip
        whole = [one for one in results if one.error is None and one.metrics_dataframe is not None]
        failed = [one.error for one in results if one.error is not None]
    if not whole:
        raise Broken(f"No plan could be trained: {str(failed[0]).strip().splitlines()[-1] if failed else 'none was tried'}.")
    if failed:
        say(f"{len(failed)} plans failed and are left out: {str(failed[0]).strip().splitlines()[-1]}")
    names = ("epoch", "elapsed_s", "loss", JUDGED_BY, "validation_auc", "rate", "windows_per_s")
    tried = [
        Trial({name: one.config[name] for name in SPACE}, one.metrics_dataframe[list(names)].to_dict("records")) for one in whole
    ]
    return sorted(tried, key=lambda one: (one.last["elapsed_s"] >= minutes * 60, one.last[JUDGED_BY]), reverse=True)


def _trial(config: dict[str, Any]) -> None:
    """What a worker does: one plan, composing its windows itself, so that as many plans fit as there are cores."""
    import torch
    from ray import tune

    from trainer.training.learn import Learner
    from trainer.training.plan import chosen_plan

    torch.set_num_threads(1)
    plan = chosen_plan(config["model"], config["minutes"], **{name: config[name] for name in SPACE})
    learner = Learner(Path(config["folder"]), plan, composers=0, device="cuda" if config["gpu"] else "cpu")
    while not learner.done:
        tune.report(learner.run_epoch())
