"""`soundscape story`: the whole loop, unattended, on the synthetic forest; each step with its evidence from the log."""

from __future__ import annotations

import json
import logging
import os
import signal
import sys
from typing import Any

import click

from soundscape.errors import SoundscapeError
from soundscape.settings import get_settings

log = logging.getLogger(__name__)

LOG = "story.log"
SETTINGS = {
    "SOUNDSCAPE_SAMPLE_UNTOLD_SPEECH": "true",  # nobody speaks in the synthetic forest
    "SOUNDSCAPE_SAMPLE_RATE": "0.3",  # a short story: 5 % of it would be a handful
    "SOUNDSCAPE_SAMPLE_QUOTA": "200",
}
"""What the story's stack is told beside what it was told already."""


@click.command()
@click.option("--json", "as_json", is_flag=True, help="End with a JSON object: steps, audit, releases.")
@click.option("--keep", is_flag=True, help="Leave the stack running.")
@click.pass_context
def story(context: click.Context, as_json: bool, keep: bool) -> None:
    """Feedback, samples, labels, replay, retraining, gate, shadow, canary, promotion and rollback, with simulated people.

    Ends with 0 only where every step held.
    """
    import httpx
    from rich.console import Console
    from rich.markup import escape

    from compose.demo_story import StepFailed, Story
    from compose.story_steps import STEPS
    from compose.story_tale import Tale

    for name, value in SETTINGS.items():
        os.environ.setdefault(name, value)
    get_settings.cache_clear()
    settings = get_settings()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    told = Story(Console(width=None if sys.stdout.isatty() else 140, stderr=as_json), settings.logs / LOG)
    tale, done, code = Tale(told, settings, settings.root / "story"), list[dict[str, Any]](), 0
    audit: dict[str, int] = {}
    try:
        for name, why, step in STEPS:
            with told.step(name.capitalize(), why):
                try:
                    evidence = step(tale)
                except Exception as error:  # whatever it is: the step did not hold
                    if not isinstance(error, StepFailed | SoundscapeError | httpx.HTTPError | OSError):
                        log.exception("The step %s broke.", name)
                    failed = f"{error}" or type(error).__name__
                    done.append({"name": name, "ok": False, "evidence": {"failed": failed}})
                    told.say(f"[bold red]{escape(failed)}[/]")
                    code = 1
                    break
                done.append({"name": name, "ok": True, "evidence": evidence})
                told.say(f"[dim]{escape(json.dumps(evidence, default=str)[:400])}[/]")
        with told.step("Audit", "every clip counted from the logs, the board, the tours and the files"):
            ended, lines, _ = told.ask("audit", "--json")
            audit = json.loads(lines[-1]) if lines else {}
            clean = ended == 0 and audit.get("lost") == 0 and audit.get("twice") == 0
            told.say(f"{audit}")
            code = code if clean else 1
    except KeyboardInterrupt:
        code = 130
    finally:
        if not keep:
            ended, lines, errors = told.ask("down")
            if ended != 0:
                told.say_still_up(ended, errors or lines)
                code = code or 1
        told.close()
    if as_json:
        releases = [name for name in (tale.champion, tale.candidate) if name]
        click.echo(json.dumps({"steps": done, "audit": audit, "releases": releases}, default=str))
    context.exit(code)
