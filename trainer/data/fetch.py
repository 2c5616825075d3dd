"""`soundscape fetch`: what lies elsewhere, where credentials and network allow: BirdCLEF 2025, and when its recordings were made."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from soundscape.settings import get_settings
from soundscape.terminal import terminal_width

if TYPE_CHECKING:
    from trainer.data.fetch_dates import Fetched

FOLDER = click.Path(path_type=Path, file_okay=False)


@click.group()
def fetch() -> None:
    """Bring data from its publishers; interrupted, the same command goes on."""


@fetch.command("birdclef-2025")
@click.option("--to", type=FOLDER, help="Where to; birdclef-2025 in the data directory unless given.")
def birdclef_2025(to: Path | None) -> None:
    """Download the competition's data by Kaggle's own client, and unpack it; the folder is the last line."""
    from rich.console import Console

    from trainer.data.fetch_kaggle import COMPETITION, fetch_competition
    from trainer.progress import progress_on

    folder = (to or get_settings().root / COMPETITION).expanduser().absolute()
    with progress_on(Console(stderr=True)) as told:
        catalog = fetch_competition(folder, lambda text: click.echo(text, err=True), told)
    click.echo(f"{len(catalog.clips)} clips of {len(catalog.species)} species, {len(catalog.unlabelled)} soundscapes without labels.")
    click.echo(folder)


@fetch.command()
@click.option("--data", required=True, type=click.Path(path_type=Path, file_okay=False, exists=True),
              help="A folder in the layout of BirdCLEF 2025; its dates.csv is written.")  # fmt: skip
def dates(data: Path) -> None:
    """Ask Xeno-canto and iNaturalist when the recordings without a date were made, once a second; what is known is not asked again."""
    from rich.console import Console

    from trainer.data.fetch_dates import fetch_dates
    from trainer.progress import progress_on

    with progress_on(Console(stderr=True)) as told:
        found = fetch_dates(get_settings(), data, told)
    _show(found)
    if found.stopped is not None:
        raise found.stopped


def _show(found: Fetched) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table("collection", "what became of it", "recordings", title="Dates")
    for (collection, what), n in sorted(found.counts.items()):
        table.add_row(collection, what, str(n))
    Console(width=terminal_width()).print(table)
    click.echo(f"{found.dated} of {found.recordings} recordings have a date; {found.added} are new in {found.table}.")
