"""`soundscape distil RELEASE`: a network small enough for a phone, taught by a release."""

from __future__ import annotations

from pathlib import Path

import click

from soundscape.options import RELEASE_NAME
from soundscape.settings import get_settings


@click.command()
@click.argument("release")
@click.option("--data", required=True, type=click.Path(path_type=Path, file_okay=False, exists=True), help="What it was trained on.")
@click.option("--minutes", default=20.0, show_default=True, type=click.FloatRange(min=0.01), help="Time for the training.")
@click.option("--name", type=RELEASE_NAME, help="Name of the student's release; made from the data and the plan unless given.")
@click.option("--again", is_flag=True, help="Train anew, although the same teacher and plan have made a release already.")
def distil(release: str, data: Path, minutes: float, name: str | None, again: bool) -> None:
    """Teach a MobileNetV2 for phones what RELEASE answers to composed windows, and make a release of it; its name is the last line."""
    from functools import partial

    from rich.console import Console

    from soundscape.release import named_release
    from trainer.commands import prepared_of, show_metrics
    from trainer.members.models import STUDENT
    from trainer.progress import progress_on
    from trainer.training.plan import Plan
    from trainer.training.taught import WINDOWS, hear, require_same_data
    from trainer.training.train import train

    settings = get_settings()
    teacher = named_release(settings.releases, release)
    prepared, report = prepared_of(data)
    require_same_data(prepared, teacher)
    with progress_on(Console(stderr=True)) as told:
        hear(prepared, teacher, WINDOWS, partial(told, f"batches of windows heard by {release}"))
    plan = Plan(model=STUDENT, minutes=minutes, taught_by=teacher.digest)
    made = train(settings, prepared, report, plan, name, again, click.echo, teacher=teacher)
    show_metrics(made.release.metrics)
    for what, one in made.release.metrics["against_teacher"].items():
        paired = f"{one['mean']:+.3f} ({one['low']:+.3f} to {one['high']:+.3f}, 95 % over recordings)"
        click.echo(f"{what}: mAP less its teacher's, paired: {paired}")
    click.echo(made.release.name)
