"""`soundscape evaluate`: how well a release hears what a folder holds, as tables, as one page, and as JSON."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from soundscape.settings import Settings, get_settings
from soundscape.terminal import terminal_width

if TYPE_CHECKING:
    from rich.console import Console

    from trainer.evaluation.run import Result


@click.command()
@click.argument("release")
@click.option("--data", required=True, type=click.Path(path_type=Path, file_okay=False, exists=True),
              help="A folder in the layout of BirdCLEF 2025, or one that `soundscape replay` made.")  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="One JSON object instead of tables.")
@click.option("--no-report", is_flag=True, help="Write no page.")
@click.option("--windows", default=64, show_default=True, type=click.IntRange(0, 1000), help="Composed for each point of a curve, if any.")
def evaluate(release: str, data: Path, as_json: bool, no_report: bool, windows: int) -> None:
    """Evaluate RELEASE on focal clips that it was not trained on, and on labelled soundscapes; apart, with slices, curves and rivals."""
    from rich.console import Console

    from soundscape.release import named_release
    from trainer.evaluation.run import evaluate_release
    from trainer.progress import progress_on

    settings, aside = get_settings(), Console(stderr=True)
    loaded = named_release(settings.releases, release)
    with progress_on(aside) as progress:
        result = evaluate_release(loaded, data, settings.root / "datasets", say=aside.print, progress=progress, strain_windows=windows)
    folder = settings.root / "evaluations" / result.name
    if not no_report:
        from trainer.evaluation.report import write_report

        page = write_report(result, folder)
        _track(settings, result, folder, aside)
    if as_json:
        click.echo(json.dumps(result.numbers))
        return
    show(result, Console(width=terminal_width()))
    if not no_report:
        click.echo(page)


def show(result: Result, console: Console) -> None:
    """Print the scores, the slices, the rivals and the curves as tables."""
    from rich.table import Table

    for kind, found in result.numbers["parts"].items():
        table = Table(kind, "macro ROC-AUC", "macro mAP", "species", "windows", "calls", title=f"{result.loaded.release.name} (95 %)")
        table.add_row("all", _cell(found, "auc"), _cell(found, "mean_ap"), str(found["classes"]), str(found["rows"]), "")
        for name, one in found["slices"].items():
            calls = f"{one['positives']}{' (too small)' if one['small'] else ''}"
            table.add_row(f"  {name}", _cell(one, "auc"), _cell(one, "mean_ap"), str(one["classes"]), str(one["rows"]), calls)
        for name, one in found["rivals"].items():
            table.add_row(f"  rival: {name.replace('_', ' ')}", _cell(one, "auc"), _cell(one, "mean_ap"), str(one["classes"]), "", "")
        console.print(table)
        covered = found["coverage"]
        top = " and ".join(f"{found[f'top_{k}']:.0%} in the top {k}" for k in (1, 5) if found[f"top_{k}"] is not None)
        console.print(f"{covered['ever_named']} of {covered['there']} species were named where they are; {top or 'no call to rank'}.\n")
    if result.curves:
        table = Table("strain", *(f"{n}" for n in range(1, 6)), title="Macro mAP along each curve (strength in brackets)")
        for name, points in result.curves.items():
            table.add_row(name, *(f"{point.mean_ap or 0:.2f} ({point.strength:g})" for point in points))
        console.print(table)
    console.print(f"Set {result.digest}")


def _track(settings: Settings, result: Result, folder: Path, console: Console) -> None:
    """Log to MLflow where it answers; the evaluation stands without it."""
    from trainer.training.tracking import reachable, tracked

    if not reachable(settings.tracking_uri):
        console.print(f"MLflow does not answer at {settings.tracking_uri}; the evaluation is kept in {folder} alone.")
        return
    with tracked(settings, folder, f"evaluate {result.name}", console.print) as run:
        run.tags({"release": result.loaded.release.name, "release_digest": result.loaded.digest, "evaluation_set": result.digest})
        run.metrics(dict(_flat(result.numbers["parts"])))
        for name in ("report.html", "report.json"):
            run.artifact(folder / name, "evaluation")


def _flat(parts: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    """Metric names that MLflow takes."""
    for kind, found in parts.items():
        for what in ("auc", "mean_ap", "top_1", "top_5", "calibration_error"):
            if found[what] is not None:
                yield f"evaluation.{kind}.{what}", found[what]
        for one in found["slices"].values():
            if one["mean_ap"] is not None:
                name = "".join(letter if letter.isalnum() else "_" for letter in f"{one['family']}_{one['name']}")
                yield f"evaluation.{kind}.slice.{name}", one["mean_ap"]


def _cell(found: Mapping[str, Any], what: str) -> str:
    if found[what] is None:
        return "-"
    between = found.get(f"{what}_interval")
    return f"{found[what]:.3f}" + (f" ({between[0]:.3f} to {between[1]:.3f})" if between else "")
