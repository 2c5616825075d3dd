"""`soundscape gate`: whether a release may become a candidate; every reason against it is said, and a refusal is exit code 1."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from soundscape.options import NAME
from soundscape.settings import get_settings
from soundscape.terminal import terminal_width

if TYPE_CHECKING:
    from rich.console import Console

    from trainer.gate.run import Verdict

SHOWN = 12
"""Labels that are listed on the console."""
_WORDS = {(True, True): "[green]holds[/]", (True, False): "[yellow]not asked[/]", (False, True): "[red]refused[/]"}


@click.command()
@click.argument("release", type=NAME)
@click.option("--site", type=NAME, help="Site whose champion it is measured against; the setting's site unless given.")
@click.option("--data", type=click.Path(path_type=Path, file_okay=False, exists=True),
              help="What judges; the data it was trained on unless given.")  # fmt: skip
@click.option("--champion", help="Another release to measure against.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object: passed, reasons, metrics.")
@click.pass_context
def gate(context: click.Context, release: str, site: str | None, data: Path | None, champion: str | None, as_json: bool) -> None:
    """Ask everything of RELEASE that a candidate must hold. Exit code 0: passed; 1: refused; 2: there was nothing to judge, or nothing to
    judge by."""
    from rich.console import Console

    from trainer.gate.record import champion_of, queue_retraining, record, say_steps, state_of
    from trainer.gate.run import judge
    from trainer.progress import progress_on

    settings, aside = get_settings(), Console(stderr=True)
    site = site or settings.site
    state = state_of(settings, site)
    against = champion_of(settings, state, champion, aside.print)
    with progress_on(aside) as progress:
        verdict = judge(settings, release, data, against, aside.print, progress)
    record(settings, site, release, verdict, against)
    queued = queue_retraining(settings, site, release, verdict)
    say_steps(settings, site, state.generation if state else 0, release, verdict, queued, aside.print)
    if as_json:
        click.echo(json.dumps(verdict.plain()))
    else:
        _show(release, verdict, queued, Console(width=terminal_width()))
    if not verdict.passed:
        context.exit(1)


def _show(release: str, verdict: Verdict, queued: bool, console: Console) -> None:
    from rich.table import Table
    from rich.text import Text

    table = Table("asked", "", "answer", title=f"The gate: {release}")
    for one in verdict.checks:
        table.add_row(one.name, _WORDS[one.passed, one.asked], Text(one.says))
    console.print(table)
    if lost := verdict.metrics.get("labels_lost"):
        shown = ", ".join(lost[:SHOWN]) + (f" and {len(lost) - SHOWN} more (--json lists them)" if len(lost) > SHOWN else "")
        console.print(f"{len(lost)} labels that the champion knows and it does not: {shown}.", highlight=False)
    console.print("It may become a candidate." if verdict.passed else f"Refused for {len(verdict.reasons)} reasons.")
    for line in verdict.not_asked:
        console.print(f"[yellow]Nobody knows of {line}[/]", highlight=False)
    if queued:
        console.print("One retraining of the site is queued.")
