"""`soundscape deploy`: asks the deployer, and returns when every worker answers by the release."""

from __future__ import annotations

import getpass

import click

from soundscape.operator import ask
from soundscape.options import NAME
from soundscape.settings import get_settings


@click.command()
@click.argument("release")
@click.option("--site", type=NAME, help="Site to serve; the setting's site unless given.")
@click.option("--generation", type=int, help="Generation that you saw; refused if another is in force.")
@click.option("--accept-noncommercial", is_flag=True, help="Deploy a member whose licence forbids commercial use.")
def deploy(release: str, site: str | None, generation: int | None, accept_noncommercial: bool) -> None:
    """Make RELEASE the champion of a site; returns when every worker of both lanes answers by it."""
    settings = get_settings()
    state = ask(
        settings,
        "POST",
        "/deploy",
        {
            "site": site or settings.site,
            "release": release,
            "actor": getpass.getuser(),
            "seen": generation,
            "accept_noncommercial": accept_noncommercial,
        },
    )
    click.echo(f"Site {state['site']} is answered by {release} (generation {state['generation']}), in both lanes.")
