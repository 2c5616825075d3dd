"""The commands of learning: prepare, train, score."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from soundscape.options import RELEASE_NAME
from soundscape.settings import get_settings
from soundscape.terminal import terminal_width

if TYPE_CHECKING:
    from trainer.data import store
    from trainer.data.prepare import Report

NAMED = {
    "train": "the clips learnt from (says little)",
    "validation": "validation, each window",
    "validation_clips": "validation, each clip",
    "soundscapes": "soundscapes, each row",
}
NAMES = ("small", "efficientnet_b0", "resnet50", "mobilenet_v2", "tagger", "birdnet_head", "tagger_head", "cnn14_head", "perch_head")
"""What `--model` takes; trainer/members/models.py has them, and half a second of imports."""
FOLDER = click.Path(path_type=Path, file_okay=False, exists=True)
_budget = click.option(
    "--budget-mb", default=None, type=click.FloatRange(min=0, min_open=True), help="Size that the members of an ensemble may have together."
)


@click.command()
@click.option("--data", required=True, type=FOLDER, help="A folder in the layout of BirdCLEF 2025, or a synthetic forest.")
def prepare(data: Path) -> None:
    """Check every file, split by recording, and store what a model sees; goes on where an earlier run stopped."""
    from trainer.data.prepare_table import show_report
    from trainer.training.tracking import tracked

    prepared, report = prepared_of(data)
    show_report(report)

    with tracked(get_settings(), prepared.folder, f"prepare {prepared.folder.name}", click.echo) as tracking:
        tracking.tags({"data_digest": prepared.digest, "feature_fingerprint": prepared.spec.fingerprint, "data": data.name})
        tracking.metrics({f"data.{role}.{what}": n for role, one in report.counts.items() for what, n in one.items()})
        tracking.metrics({"data.left_out": len(report.left_out)})
        if report.speech is not None:
            tracking.metrics({"data.speech_windows": report.speech.windows})
        tracking.artifact(prepared.folder / "report.json", "prepare")
    click.echo(prepared.folder)


@click.command()
@click.option("--data", required=True, type=FOLDER, help="A folder in the layout of BirdCLEF 2025, or a synthetic forest.")
@click.option("--model", help=f"{', '.join(NAMES)}; the recommended ensemble unless given.")
@click.option("--minutes", default=20.0, show_default=True, type=click.FloatRange(min=0.01), help="Time for the training.")
@click.option("--name", type=RELEASE_NAME, help="Name of the release; made from the data and the plan unless given.")
@click.option("--pseudo", default=None, help="Release whose answers to the soundscapes without labels count as truth where it is sure.")
@_budget
@click.option("--again", is_flag=True, help="Train anew, although the same data and plan have made a release already.")
@click.option("--gpu", is_flag=True, help="Train a network on a GPU.")
@click.option(
    "--adapt", type=click.Choice(["scratch", "full", "lora"]),
    help="efficientnet_b0: from scratch unless given, or from ImageNet's weights (SOUNDSCAPE_IMAGENET).",
)  # fmt: skip
@click.option("--optimizer", type=click.Choice(["adamw", "sgd"]), help="adamw unless given.")
@click.option("--rate", type=click.FloatRange(min=0, min_open=True), help="The highest; 0.002 for adamw, 0.05 for sgd unless given.")
@click.option("--smoothing", type=click.FloatRange(0, 0.4), help="Of the labels; 0.01 unless given.")
@click.option("--recipe", type=click.Choice(["composed", "clean", "crowded", "unmasked"]), help="How windows are composed.")
@click.option("--batch", type=click.IntRange(min=2), help="Windows a step; 16 unless given.")
@click.option("--accumulate", type=click.IntRange(min=1), help="Parts that a batch is worked off in: less memory.")
@click.option("--checkpointing", is_flag=True, help="Compute activations again instead of keeping them: less memory, more time.")
@click.option("--half", type=click.Choice(["auto", "on", "off"]), help="bfloat16; where it is measured to be faster unless given.")
def train(
    data: Path, model: str | None, minutes: float, name: str | None, pseudo: str | None, budget_mb: float | None, again: bool, gpu: bool,
    **choices: Any,
) -> None:  # fmt: skip
    """Train a model, or the recommended ensemble, and make a release of it; its name is the last line."""
    from rich.console import Console

    from soundscape.release import named_release
    from trainer.members.body import require
    from trainer.members.models import HEADS, build
    from trainer.progress import progress_on
    from trainer.training.cluster import require_gpu
    from trainer.training.mixing import Recipe
    from trainer.training.plan import chosen_plan
    from trainer.training.pseudo import hear
    from trainer.training.recommended import recommend
    from trainer.training.train import train as run

    settings = get_settings()
    if model is not None and budget_mb is not None:
        raise click.UsageError("--budget-mb chooses the members of the ensemble; leave --model out, or it.")
    chosen = {name: value for name, value in choices.items() if value is not None and value is not False}
    if (chosen or gpu) and (model is None or model in HEADS):
        said = ", ".join(f"--{name}" for name in (*chosen, *(["gpu"] if gpu else [])))
        raise click.UsageError(f"{said}: only for a network that is trained here; name it by --model.")
    if model in HEADS:  # what is missing, or a wrong name, is said before the work
        require(model)
    elif model is not None:
        build(model, 2)
        chosen_plan(model, minutes, **chosen)
    if gpu:
        settings = settings.model_copy(update={"ray_gpus": 1})
    require_gpu(settings)
    teacher = named_release(settings.releases, pseudo) if pseudo else None
    prepared, report = prepared_of(data)
    with progress_on(Console(stderr=True)) as told:
        heard = hear(prepared, teacher, click.echo, partial(told, "soundscapes without labels")) if teacher else ""
        if model is None:
            recipe = Recipe(pseudo=heard)
            release = recommend(settings, prepared, report, minutes, name, again, click.echo, told, recipe, budget_mb, teacher)
    if model is not None:
        plan = chosen_plan(model, minutes, heard, **chosen)
        release = run(settings, prepared, report, plan, name, again, click.echo, teacher=teacher)
    show_metrics(release.release.metrics)
    click.echo(release.release.name)


@click.command()
@click.argument("releases", nargs=-1, required=True)
@click.option("--data", required=True, type=FOLDER, help="The folder that all of them were trained on.")
@click.option("--name", type=RELEASE_NAME, help="Name of the release; made from the data and the parts unless given.")
@_budget
def ensemble(releases: tuple[str, ...], data: Path, name: str | None, budget_mb: float | None) -> None:
    """Fuse RELEASES of the same data into one: weights, calibration, thresholds; its name is the last line."""
    from rich.console import Console

    from soundscape.release import named_release
    from trainer.progress import progress_on
    from trainer.training.recommended import fuse_named

    parts = [named_release(get_settings().releases, one) for one in releases]
    prepared, _ = prepared_of(data)
    with progress_on(Console(stderr=True)) as told:
        release = fuse_named(get_settings(), prepared, parts, name, click.echo, told, budget_mb)
    show_metrics(release.release.metrics)
    click.echo(release.release.name)


@click.command()
@click.option("--data", required=True, type=FOLDER, help="Folder with soundscape_labels.csv, taxonomy.csv and train_soundscapes/.")
@click.option("--answers", required=True, type=click.Path(path_type=Path), help="Folder of STEM.csv files, or JSON lines.")
@click.option("--learnt-from", type=FOLDER, help="Data that the rivals learn from; --data itself unless given.")
@click.option("--release", default=None, help="Release whose thresholds say what was heard; 0.5 for every species unless given.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
def score(data: Path, answers: Path, learnt_from: Path | None, release: str | None, as_json: bool) -> None:
    """Score answers against a folder's truth: macro ROC-AUC and mAP, species by species, and beside simple rivals."""
    import json

    from soundscape.release import named_release
    from trainer.evaluation.scoring import Told, scored

    settings = get_settings()
    quiet = (lambda _: None) if as_json else click.echo
    served = named_release(settings.releases, release) if release else None
    thresholds = dict(zip(served.label_names, served.thresholds.tolist(), strict=True)) if served else {}
    found = scored(data, answers, learnt_from or data, settings.root / "datasets", thresholds, quiet)
    if as_json:
        click.echo(json.dumps(found, indent=1))
    else:
        Told(found).show()


def prepared_of(data: Path) -> tuple[store.Prepared, Report]:
    """Prepare a folder with a bar; what an earlier run prepared is used again. Raises Invalid as `trainer.data.prepare.prepare`."""
    from rich.console import Console

    from trainer.data.prepare import prepare as run
    from trainer.progress import progress_on

    aside = Console(stderr=True)
    with progress_on(aside) as told:
        return run(data, get_settings().root / "datasets", aside.print, partial(told, "Hearing every file"))


def show_metrics(metrics: dict[str, Any]) -> None:
    """Print how well a release hears, by what it was judged on."""
    from rich.console import Console
    from rich.table import Table

    def cell(found: dict[str, Any], what: str) -> str:
        if found[what] is None:
            return "-"
        between = found.get(f"{what}_interval")
        return f"{found[what]:.3f}" + (f" ({between[0]:.3f} to {between[1]:.3f})" if between else "")

    table = Table("judged on", "macro ROC-AUC", "macro mAP", "species", "rows", title="How well it hears (95 % over recordings)")
    for name, found in metrics.items():
        if name in ("validation", "validation_clips", "train", "soundscapes"):
            said = NAMED.get(name, name)
            parts = {said: found, **{f"  {taxon}": one for taxon, one in found["by_taxon"].items()}}
            parts |= {f"  rival: {rival}": one for rival, one in found.get("rivals", {}).items()}
            for part, one in parts.items():
                table.add_row(part, cell(one, "auc"), cell(one, "mean_ap"), str(one["classes"]), str(one["rows"]))
    Console(width=terminal_width()).print(table)
