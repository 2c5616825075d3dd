"""`soundscape demo`: the whole story on this machine, told step by step; every step is a command of the product."""

from __future__ import annotations

import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from soundscape.errors import SoundscapeError
from soundscape.settings import get_settings

if TYPE_CHECKING:
    from compose.demo_story import Story

LOG = "demo.log"


@click.command()
@click.option("--data", type=click.Path(exists=True, file_okay=False, path_type=Path), help="Recordings in BirdCLEF's layout.")
@click.option("--minutes", type=click.FloatRange(min=0.01), help="Of training [default: 2; 20 with --data].")
@click.option("--keep", is_flag=True, help="Leave the stack running.")
@click.pass_context
def demo(context: click.Context, data: Path | None, minutes: float | None, keep: bool) -> None:
    """Name the birds of a real recording, learn a forest, stream it, and show what was heard beside what was there.

    In a terminal the stack stays up until Ctrl-C; without one everything ends by itself.
    """
    from rich.console import Console

    from compose.demo_steps import tell
    from compose.demo_story import Story

    settings = get_settings()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    console = Console(width=None if sys.stdout.isatty() else 140)
    story = Story(console, settings.logs / LOG)
    code = _guarded(story, lambda: tell(story, settings, data.absolute() if data else None, minutes))
    if code == 0 and not keep and sys.stdin.isatty() and sys.stdout.isatty():
        code = _stay(story)
    down = _end(story, code, keep)
    context.exit(code or down)


def _guarded(story: Story, told: Callable[[], None]) -> int:
    """Tell it; 0, or 1 with what failed and where its log is, or 130 where it was interrupted."""
    import httpx

    from compose.demo_story import StepFailed

    try:
        told()
    except (StepFailed, SoundscapeError, httpx.HTTPError, OSError) as error:
        story.console.print(f"\n[bold red]Failed[/] at: {story.now}", highlight=False)
        story.say(f"{error}")
        story.say(f"Its log: {story.log_path}; those of the processes lie beside it (`soundscape logs NAME`).")
        return 1
    except KeyboardInterrupt:
        story.console.print("\nInterrupted; the next run goes on with what is there.")
        return 130
    return 0


def _stay(story: Story) -> int:
    """Until Ctrl-C."""
    story.console.print("\nThe stack stays up. [bold]Ctrl-C[/] ends it.")
    try:
        while not threading.Event().wait(3600):
            pass
    except KeyboardInterrupt:
        story.console.print()
    return 0


def _end(story: Story, code: int, keep: bool) -> int:
    """Stop everything unless it is kept; a second Ctrl-C leaves nothing running either. 0, or 1 where it could not be stopped."""
    before = {number: signal.signal(number, signal.SIG_IGN) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        if keep and code == 0:
            story.say("The stack is left running; `soundscape down` ends it.")
            return 0
        began = time.monotonic()
        ended, lines, errors = story.ask("down")
        if ended == 0:
            said = (lines or errors or [""])[-1]
            story.console.print(f"\n{said} [dim]{time.monotonic() - began:.1f} s[/]", highlight=False)
        else:
            story.say_still_up(ended, errors or lines)
        story.console.print(f"[dim]The whole demo took {story.elapsed:.0f} s; all was said to {story.log_path} too.[/]", highlight=False)
        return 0 if ended == 0 else 1
    finally:
        story.close()
        for number, handler in before.items():
            signal.signal(number, handler)
