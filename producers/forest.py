"""`soundscape forest`: the synthetic forest as a folder to train on."""

from __future__ import annotations

from pathlib import Path

import click


@click.group()
def forest() -> None:
    """The synthetic forest: invented species, real layout, exact truth."""


@forest.command()
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path))
@click.option("--seed", type=click.IntRange(0), default=1, show_default=True, help="The same seed, the same sound.")
@click.option("--clips", type=click.IntRange(0), default=25, show_default=True, help="Focal clips of each species.")
@click.option("--minutes", type=click.IntRange(0), default=16, show_default=True, help="Labelled minutes, kept out of training.")
@click.option(
    "--drift", type=click.FloatRange(-2, 2), default=0.0, show_default=True, metavar="OCTAVES",
    help="Date the clips over two years, the newest 30 % of each species in a dialect so much higher, and faster.",
)
def make(folder: Path, seed: int, clips: int, minutes: int, drift: float) -> None:
    """Write a data set in BirdCLEF 2025's layout into FOLDER; what is there already is kept."""
    from producers.dataset import write_dataset

    write_dataset(folder, seed, clips, minutes, drift=drift)
    click.echo(f"{folder} holds the synthetic forest of seed {seed}: {clips} clips of each species, {minutes} labelled minutes.")
