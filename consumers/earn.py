"""`soundscape candidate | canary | promote | rollback | trial`: how a release earns its place; each asks the deployer."""

from __future__ import annotations

import getpass
import json
import math
from typing import Any
from urllib.parse import urlencode

import click

from soundscape.operator import ask
from soundscape.options import NAME
from soundscape.settings import get_settings
from soundscape.terminal import terminal_width

_site = click.option("--site", type=NAME, help="Site; the setting's site unless given.")
_generation = click.option("--generation", type=int, help="Generation that you saw; refused if another is in force.")
_force = click.option("--force", is_flag=True, help="Go on against the checks; it is logged.")


def _change(path: str, site: str | None, generation: int | None, **more: Any) -> dict[str, Any]:
    settings = get_settings()
    return ask(settings, "POST", path, {"site": site or settings.site, "actor": getpass.getuser(), "seen": generation, **more})


@click.command()
@click.argument("release")
@_site
@_generation
@_force
@click.option("--accept-noncommercial", is_flag=True, help="Offer a member whose licence forbids commercial use.")
def candidate(release: str, site: str | None, generation: int | None, force: bool, accept_noncommercial: bool) -> None:
    """Let RELEASE, which passed `soundscape gate`, answer beside the champion, unseen."""
    state = _change("/candidate", site, generation, release=release, force=force, accept_noncommercial=accept_noncommercial)
    click.echo(f"Site {state['site']}: {release} answers in the shadow (generation {state['generation']}).")


@click.command()
@click.argument("share", type=click.FloatRange(min=0, min_open=True, max=1))
@_site
@_generation
@_force
def canary(share: float, site: str | None, generation: int | None, force: bool) -> None:
    """Let the candidate answer a SHARE (0 to 1) of the streams; raising it only adds streams. Tours under way stay as they are."""
    if math.isnan(share):  # which no range refuses
        raise click.BadParameter("nan is no share; give a number above 0 and at most 1.", param_hint="SHARE")
    state = _change("/canary", site, generation, share=share, force=force)
    name = state["candidate"]["name"]
    click.echo(f"Site {state['site']}: {name} answers {share:.0%} of the streams (generation {state['generation']}).")


@click.command()
@_site
@_generation
@_force
def promote(site: str | None, generation: int | None, force: bool) -> None:
    """Make the candidate champion, once its trial has shown enough."""
    state = _change("/promote", site, generation, force=force)
    click.echo(f"Site {state['site']} is answered by {state['champion']['name']} (generation {state['generation']}), in both lanes.")


@click.command()
@_site
@_generation
def rollback(site: str | None, generation: int | None) -> None:
    """Drop the candidate; without one, make the previous release champion again."""
    state = _change("/rollback", site, generation)
    click.echo(f"Site {state['site']} is answered by {state['champion']['name']} (generation {state['generation']}), in both lanes.")


@click.command()
@_site
@click.option("--json", "as_json", is_flag=True, help="For machines.")
def trial(site: str | None, as_json: bool) -> None:
    """How the candidate's trial stands: what it lacks, what speaks against it, and where the two releases differ."""
    settings = get_settings()
    said = ask(settings, "GET", f"/trial?{urlencode({'site': site or settings.site})}")
    if as_json:
        click.echo(json.dumps(said))
        return
    from rich.console import Console
    from rich.table import Table

    console = Console(width=terminal_width())
    console.print(f"{said['candidate']} against {said['champion']} on {said['site']}: {said['stage']}, share {said['share']:.0%}")
    console.print(f"{said['clips']} clips on {said['streams']} streams answered for guides; {said['pairs']} clips answered by both")
    for name in ("missing", "alarms"):
        for line in said[name]:
            console.print(f"[yellow]{name}:[/] {line}", highlight=False)
    table = Table("label", "both", "champion alone", "candidate alone", "clips", title="Where they differ")
    for row in said["differences"]:
        table.add_row(row["label"], *(str(row[where]) for where in ("both", "champion", "candidate")), ", ".join(row["clips"][:3]))
    console.print(table)
