"""`soundscape deploy`: asks the deployer, and returns when every worker answers by the release."""

from __future__ import annotations

import getpass
from typing import Any

import click
import httpx

from soundscape.errors import Invalid, Reason, Unavailable
from soundscape.options import NAME
from soundscape.settings import Port, Settings, get_settings

WAIT_S = 400.0
"""Seconds to wait for the deployer's answer: it waits for the workers itself, and names who did not report."""


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


def ask(settings: Settings, method: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
    """The deployer's answer. Raises Invalid with its reason, Unavailable if it cannot be asked."""
    try:
        secret = (settings.state / "operator.token").read_text(encoding="utf-8")
        answer = httpx.request(
            method, settings.url(Port.DEPLOYER) + path, json=body, timeout=WAIT_S, headers={"Authorization": f"Bearer {secret}"}
        )
    except (OSError, httpx.HTTPError) as error:
        raise Unavailable("The deployer does not answer; start the stack with `soundscape up`.") from error
    if answer.status_code == httpx.codes.OK:
        said: dict[str, Any] = answer.json()
        return said
    as_json = answer.headers.get("content-type", "").startswith("application/json")
    detail = str(answer.json().get("detail")) if as_json else answer.text
    if answer.status_code == httpx.codes.SERVICE_UNAVAILABLE:
        raise Unavailable(detail)
    raise Invalid(Reason.BAD_REQUEST, detail)
