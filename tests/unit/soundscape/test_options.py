"""What a command line may call a site."""

from __future__ import annotations

import click
import pytest
from click.testing import CliRunner

from soundscape.options import NAME, RELEASE_NAME


@click.command()
@click.option("--site", type=NAME)
def said(site: str | None) -> None:
    """Say the site."""
    click.echo(site)


@pytest.mark.parametrize("wrong", ["", "../x", "a\\b", "a\nb", "x" * 201])
def test_what_is_no_name_is_refused(wrong: str) -> None:
    """An empty one too: a variable that was not set must not mean the default site."""
    done = CliRunner().invoke(said, ["--site", wrong])
    assert done.exit_code == 2
    assert "is no name" in done.output


@pytest.mark.parametrize("wrong", ["..", ".hidden", "../x", ""])
def test_what_becomes_a_folder_leads_nowhere_else(wrong: str) -> None:
    @click.command()
    @click.option("--name", type=RELEASE_NAME)
    def made(name: str) -> None:
        click.echo(name)

    assert CliRunner().invoke(made, ["--name", wrong]).exit_code == 2
    assert CliRunner().invoke(made, ["--name", "a.b"]).output == "a.b\n"


def test_a_name_stays_as_it_is_and_none_means_the_default() -> None:
    """Spaces and letters of any language are allowed."""
    assert CliRunner().invoke(said, ["--site", "La Peña 2"]).output == "La Peña 2\n"
    assert CliRunner().invoke(said, []).output == "\n"
