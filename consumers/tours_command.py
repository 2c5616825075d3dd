"""`soundscape tours`: what each tour has heard, checked against the log, and beside the tours before the system."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from consumers.tour_baseline import compare, guided, import_baseline, kept_baseline
from consumers.tour_recount import differences, read_summaries
from soundscape.errors import Invalid, Reason
from soundscape.events import TourSummed
from soundscape.known_sites import require_known
from soundscape.options import NAME
from soundscape.settings import get_settings
from soundscape.terminal import terminal_width

if TYPE_CHECKING:
    from rich.table import Table

SHOWN = 20
"""Differences listed for people."""
_json = click.option("--json", "as_json", is_flag=True, help="For machines.")
_site = click.option("--site", type=NAME, help="Only those of this site.")


@click.group()
def tours() -> None:
    """Tours and recorders' days: what they heard, and how it compares."""


@tours.command("list")
@_site
@click.option("--all", "everything", is_flag=True, help="Days of recorders and of uploads as well.")
@click.option("--limit", type=click.IntRange(1), default=30, show_default=True, help="The newest so many.")
@_json
def list_command(site: str | None, everything: bool, limit: int, as_json: bool) -> None:
    """The tours, the newest first."""
    found = [one for one in _summaries(site) if everything or guided(one)]
    if not found:
        require_known(get_settings(), site)
    newest = sorted(found, key=lambda one: one.at, reverse=True)[:limit]
    if as_json:
        click.echo(json.dumps([one.model_dump(mode="json", exclude={"heard"}) for one in newest]))
        return
    from rich.table import Table

    table = Table("tour", "site", "species", "an hour", "clips", "minutes", "feedback", "news", title=f"{len(newest)} of {len(found)}")
    for one in newest:
        numbers = (one.diversity, _number(one.diversity_per_hour), one.clips, _number(one.effort_minutes), one.feedback)
        table.add_row(one.tour_id, one.site, *map(str, numbers), f"{one.at:%Y-%m-%d %H:%M}")
    _print(table)


@tours.command("show")
@click.argument("tour")
@_json
def show(tour: str, as_json: bool) -> None:
    """What TOUR has heard, species by species; of a recorder's day TOUR is STREAM@YYYY-MM-DD."""
    found = read_summaries(get_settings()).get(tour)
    if found is None:
        raise Invalid(Reason.BAD_REQUEST, f"There is no tour {tour!r}; `soundscape tours list --all` lists them.")
    if as_json:
        click.echo(found.model_dump_json())
        return
    from rich.table import Table

    title = f"{found.tour_id}: {found.diversity} species confirmed in {_number(found.effort_minutes)} minutes, {found.clips} clips"
    table = Table("species", "status", "by", "clips", "windows", "best", "first", "last", title=title)
    for one in found.heard:
        name = f"{one.names.en} ({one.names.scientific})" if one.names else one.label
        times = (f"{moment:%H:%M:%S}" if moment else "-" for moment in (one.first_at, one.last_at))
        by = "a person" if one.by_person else "the model"
        table.add_row(name, one.status, by, str(one.clips), str(one.windows), f"{one.confidence:.2f}", *times)
    _print(table)
    click.echo(f"Judgements: {found.feedback}. Answered by: {', '.join(found.releases) or 'nobody yet'}. Rating: {found.rating or '-'}.")


@tours.command("check")
@click.option("--wait", type=click.FloatRange(min=0), default=60.0, show_default=True, help="Seconds to let the stream catch up.")
@_json
@click.pass_context
def check(context: click.Context, wait: float, as_json: bool) -> None:
    """Recount every tour from the log and compare; exit code 1 if any differs."""
    compared, lines = differences(get_settings(), wait)
    if as_json:
        click.echo(json.dumps({"tours": compared, "differ": lines}))
    else:
        click.echo(f"{compared} tours compared with the log, {len(lines)} differ.")
        for line in lines[:SHOWN]:
            click.echo(line)
    context.exit(1 if lines else 0)


@tours.group()
def baseline() -> None:
    """Tours before the system, to compare with."""


@baseline.command("import")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
def import_command(file: Path) -> None:
    """Keep the tours of FILE, a CSV with the columns tour, date, minutes and species (how many), in place of those before."""
    found = import_baseline(get_settings(), file)
    click.echo(f"{len(found)} tours before the system are kept; `soundscape tours compare` sets them beside those of now.")


@baseline.command("show")
@_json
def show_baseline(as_json: bool) -> None:
    """The tours before the system."""
    found = kept_baseline(get_settings())
    if as_json:
        click.echo(json.dumps([one.model_dump(mode="json") for one in found]))
        return
    from rich.table import Table

    table = Table("tour", "date", "minutes", "species")
    for one in found:
        table.add_row(one.tour, one.date.isoformat(), f"{one.minutes:g}", str(one.species))
    _print(table)


@tours.command("compare")
@_site
@_json
def compare_command(site: str | None, as_json: bool) -> None:
    """Species a tour and an hour, before the system and now, as medians; tours that still go on are left out."""
    said = compare(kept_baseline(get_settings()), _summaries(site))
    if as_json:
        click.echo(json.dumps(said))
        return
    from rich.table import Table

    table = Table("median of a tour", "before", "now")
    table.add_row("tours", *(str(said[when]["tours"]) for when in ("before", "now")))
    rows = {
        "species": "species", "species an hour": "species_per_hour", "minutes": "minutes", "requests (clips)": "requests",
        "feedback": "feedback", "rating": "rating",
    }  # fmt: skip
    for title, name in rows.items():
        table.add_row(title, *(_number(said[when].get(name)) for when in ("before", "now")))
    _print(table)
    click.echo("Now: confirmed species, by the model or a person. Before: as people noted them. How they were counted differs.")


def _summaries(site: str | None) -> list[TourSummed]:
    return [one for one in read_summaries(get_settings()).values() if site in (None, one.site)]


def _number(value: Any) -> str:
    return "-" if value is None else f"{value:.1f}".removesuffix(".0")


def _print(table: Table) -> None:
    from rich.console import Console

    Console(width=terminal_width()).print(table)
