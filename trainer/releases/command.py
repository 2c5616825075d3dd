"""`soundscape release`: add the day-one release, fetch one from the registry, list releases, show one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from soundscape.errors import Invalid
from soundscape.options import NAME
from soundscape.settings import get_settings

if TYPE_CHECKING:
    from soundscape.release import LoadedRelease


@click.group()
def release() -> None:
    """What the models of a site are made of."""


@release.command()
@click.argument("model", type=click.Choice(["birdnet"]))
@click.option("--site", type=NAME, help="Site that it will serve; the stack's own unless given.")
@click.option("--lat", type=float, help="Degrees north; with --lon, unlikely species are lowered by place and week.")
@click.option("--lon", type=float, help="Degrees east.")
@click.option("--replace", is_flag=True, help="Replace the site's release, for another place; deploy it again afterwards.")
def add(model: str, site: str | None, lat: float | None, lon: float | None, replace: bool) -> None:
    """Make a release of MODEL, which set-up fetched. The last line is the release's name."""
    from trainer.members import birdnet

    site = site or get_settings().site
    place = birdnet.place_of(site, lat, lon)
    loaded = birdnet.add_birdnet(site, place, replace)
    click.echo(birdnet.ATTRIBUTION)
    if place is None:
        click.echo(f"No place is known for {site}: no species is lowered; give --lat and --lon to weight them.")
    else:
        expected = loaded.release.metrics["prior"]["expected_species"]
        click.echo(f"{expected} of {len(loaded.label_names)} species are expected at {place.latitude:g}, {place.longitude:g}.")
    click.echo(loaded.release.name)


@release.command()
@click.argument("registered")
def fetch(registered: str) -> None:
    """Bring a release back from MLflow's registry: MODEL (its newest), MODEL/VERSION or MODEL@ALIAS. The last line is its name."""
    from trainer.releases import registry

    click.echo(registry.fetch(get_settings(), registered).release.name)


@release.command()
def bench() -> None:
    """Make the benchmark's release: the cost of a classifier of 206 classes, with random weights."""
    from trainer.releases.bench_release import add_bench

    click.echo(add_bench(get_settings().releases).release.name)


@release.command("list")
def list_releases() -> None:
    """Every release: its members, labels, licences, and when it was made."""
    from soundscape.release import RELEASE_FILE, load_release

    folders = sorted(path.parent for path in get_settings().releases.glob(f"[!.]*/{RELEASE_FILE}"))
    if not folders:
        click.echo("There is no release yet; make one with `soundscape train` or `soundscape release add birdnet`.")
        return
    rows = [("RELEASE", "MEMBERS", "LABELS", "LICENCES", "MADE")]
    for folder in folders:
        try:
            one = load_release(folder).release
        except Invalid as error:
            click.echo(f"{folder.name}: {error.detail}", err=True)
            continue
        members = ", ".join(member.name for member in one.members)
        rows.append((one.name, members, str(len(one.labels)), ", ".join(one.licences), one.created_at))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        click.echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


@release.command()
@click.argument("name")
def show(name: str) -> None:
    """All that release NAME says of itself, short of its list of species."""
    from soundscape.release import named_release

    for key, value in _described(named_release(get_settings().releases, name)):
        click.echo(f"{key:<12}{value}")


def _described(loaded: LoadedRelease) -> list[tuple[str, str]]:
    """What `show` prints, as (key, value)."""
    one = loaded.release
    taxa: dict[str, int] = {}
    for species in one.labels:
        taxa[species.taxon] = taxa.get(species.taxon, 0) + 1
    own = f", {len(one.thresholds)} labels have their own" if one.thresholds else ""
    lines = [
        ("release", one.name),
        ("digest", loaded.digest),
        ("made", one.created_at),
        ("labels", f"{len(one.labels)} ({', '.join(f'{taxon} {count}' for taxon, count in sorted(taxa.items()))})"),
        ("threshold", f"{one.threshold:g}{own}"),
        ("prior", one.prior_file or "none"),
    ]
    lines += [("features", f"{key} {spec.kind}, {spec.sample_rate} Hz, {spec.shape}") for key, spec in one.features.items()]
    for member in one.members:
        licence = member.licence + (" (no commercial use)" if member.noncommercial else "")
        how = f"{member.runtime} {member.precision}, weight {member.weight:g}"
        lines.append(("member", f"{member.triton_name}, {how}, {licence}"))
    lines += [("metric", f"{key}: {value}") for key, value in one.metrics.items()]
    known = (("data", one.data_digest), ("commit", one.git_commit), ("mlflow run", one.mlflow_run))
    return lines + [(key, value) for key, value in known if value]
