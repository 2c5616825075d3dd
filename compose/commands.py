"""The commands that run the stack: up, down, status, logs, doctor."""

from __future__ import annotations

import json
import time
from pathlib import Path

import click

from soundscape.settings import Settings, get_settings
from soundscape.terminal import terminal_width

LINES = 100
"""How much of a log is shown."""


def _say(line: str) -> None:
    click.echo(line)


@click.command()
@click.argument("names", nargs=-1, metavar="[NAME]...")
@click.option("--timeout", default=240.0, show_default=True, help="Seconds to wait until everything is healthy.")
@click.pass_context
def up(context: click.Context, names: tuple[str, ...], timeout: float) -> None:
    """Start the stack, or the named processes with what they need, and wait until they are healthy."""
    from compose.local import stack

    settings = get_settings()
    began = time.monotonic()
    late = stack.up(settings, names, _say, timeout)
    _print_status(settings)
    if late:
        click.echo(f"Not healthy after {timeout:.0f} s: {', '.join(late)}. See: soundscape logs {late[0]}", err=True)
        context.exit(1)
    what = f"Up: {', '.join(names)}" if names else "The stack is up"
    click.echo(f"{what} ({time.monotonic() - began:.0f} s).")


@click.command()
def down() -> None:
    """Stop the stack; nothing is left running."""
    from compose.local import stack

    ended = stack.down(get_settings(), _say)
    click.echo(f"Stopped: {ended} processes." if ended else "Nothing was running.")


@click.command()
@click.option("--json", "as_json", is_flag=True, help="A list of {name, pid, state, healthy, address}.")
@click.option("--check", is_flag=True, help="End with 1 unless every process is healthy.")
@click.pass_context
def status(context: click.Context, as_json: bool, check: bool) -> None:
    """One row a process: state, health by a real probe, address, memory."""
    from compose.local.status import rows

    settings = get_settings()
    if as_json:
        found = rows(settings)
        click.echo(json.dumps([row.for_machines() for row in found], indent=2))
        healthy = all(row.healthy for row in found)
    else:
        healthy = _print_status(settings)
    if check and not healthy:
        context.exit(1)


def _print_status(settings: Settings) -> bool:
    from rich.console import Console

    from compose.local.status import rows, table

    found = rows(settings)
    Console(width=terminal_width()).print(table(found))
    return all(row.healthy for row in found)


@click.command()
@click.argument("name")
@click.option("-f", "--follow", is_flag=True, help="Go on until Ctrl-C.")
@click.option("-n", "--lines", default=LINES, show_default=True, help="How many lines at first.")
def logs(name: str, follow: bool, lines: int) -> None:
    """What a process has said."""
    from compose.local.config import log_path
    from soundscape.errors import Invalid, Reason

    settings = get_settings()
    path = log_path(settings, name)
    if not path.is_file():
        there = sorted(one.stem for one in settings.logs.glob("*.log"))
        said = f"there are logs of {', '.join(there)}" if there else "nothing was started yet"
        raise Invalid(Reason.BAD_REQUEST, f"There is no log of {name}; {said}.")
    text = path.read_bytes()
    for line in text.decode(errors="replace").splitlines()[-lines:]:
        click.echo(line)
    if follow:
        _follow(path, len(text))


def _follow(path: Path, position: int) -> None:
    """Print what is added, also after the log was rotated; ends with Ctrl-C."""
    inode = path.stat().st_ino
    while True:
        time.sleep(0.3)
        try:
            now = path.stat()
        except FileNotFoundError:
            continue  # between two names, while it is rotated
        if now.st_ino != inode or now.st_size < position:
            inode, position = now.st_ino, 0
        if now.st_size > position:
            with path.open("rb") as file:
                file.seek(position)
                added = file.read()
            position += len(added)
            click.echo(added.decode(errors="replace"), nl=False)


@click.command()
@click.pass_context
def doctor(context: click.Context) -> None:
    """Each dependency: found or not, and the cure."""
    from rich.console import Console

    from compose.local.doctor import examine, table

    found = examine(get_settings())
    Console(width=terminal_width()).print(table(found))
    if not all(one.found or one.optional for one in found):
        context.exit(1)
