"""`soundscape`: one command line; each service brings its commands by entry point, loaded only when called."""

from __future__ import annotations

import sys
from importlib.metadata import EntryPoint, entry_points

import click

from soundscape.errors import SoundscapeError

GROUP = "soundscape.commands"


class Commands(click.Group):
    """Commands by entry point: `--help` of one loads only that one."""

    def _entries(self) -> dict[str, EntryPoint]:
        return {entry.name: entry for entry in entry_points(group=GROUP)}

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Their names, sorted."""
        return sorted(self._entries())

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of that name."""
        entry = self._entries().get(cmd_name)
        command: click.Command | None = entry.load() if entry else None
        return command


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(package_name="el-silencio-acoustic-explorer")
def commands() -> None:
    """El Silencio Acoustic Explorer: names the animals in five seconds of forest."""


def main() -> None:
    """Run the command line; an expected error is one sentence and exit code 2, an interrupt 130."""
    try:
        sys.exit(commands.main(standalone_mode=False) or 0)
    except click.exceptions.Exit as end:
        sys.exit(end.exit_code)
    except click.ClickException as error:
        error.show()
        sys.exit(2)
    except SoundscapeError as error:
        click.echo(f"soundscape: {error}", err=True)
        sys.exit(2)
    except OSError as error:
        click.echo(f"soundscape: {error.strerror or error} ({error.filename})." if error.filename else f"soundscape: {error}.", err=True)
        sys.exit(2)
    except (KeyboardInterrupt, click.Abort):
        click.echo("soundscape: interrupted; run the same command again to go on.", err=True)
        sys.exit(130)
