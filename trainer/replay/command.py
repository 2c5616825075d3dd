"""`soundscape replay`: any stretch of the log through another release, or into a dataset."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from soundscape.errors import Invalid, Reason
from soundscape.known_sites import require_known
from soundscape.options import NAME
from soundscape.settings import get_settings
from soundscape.terminal import terminal_width

if TYPE_CHECKING:
    from trainer.replay.run import Progress, Request

OFFSETS = click.Path(path_type=Path, dir_okay=False, exists=True)


@click.command()
@click.option("--from", "since", multiple=True, help="A moment on the log (2026-03-01T06:00, UTC), or TOPIC:PARTITION:OFFSET, repeated.")
@click.option("--to", "until", multiple=True, help="Where to end, as --from, and without it; now unless given.")
@click.option("--from-offsets", type=OFFSETS, help="Begin where an earlier replay did: its manifest.json, or {topic: {partition: offset}}.")
@click.option("--to-offsets", type=OFFSETS, help="End where an earlier replay did.")
@click.option("--topics", default=None, help="clips, recordings, or both with a comma; both unless given.")
@click.option("--site", type=NAME, default=None, help="Only this site's clips.")
@click.option("--release", default=None, help="Answer by this release, onto shadow-predictions.")
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), help="Make a dataset in this folder.")
@click.option("--pseudo", type=click.FloatRange(0.5, 1.0), help="With --out: take answers from this score on as labels, too (say 0.9).")
@click.option("--json", "as_json", is_flag=True, help="The manifest as one JSON object.")
def replay(
    since: tuple[str, ...],
    until: tuple[str, ...],
    from_offsets: Path | None,
    to_offsets: Path | None,
    topics: str | None,
    site: str | None,
    release: str | None,
    out: Path | None,
    pseudo: float | None,
    as_json: bool,
) -> None:
    """Read a stretch of the log again: through another release, or into a dataset; the same command goes on where it stopped."""
    from trainer.replay.range import parse_bound
    from trainer.replay.run import CLIP_TOPICS, Request

    if (release is None) == (out is None):
        raise click.UsageError("Give --release NAME (answers on shadow-predictions) or --out FOLDER (a dataset), one of them.")
    if pseudo is not None and out is None:
        raise click.UsageError("--pseudo belongs to --out.")
    asked = tuple(dict.fromkeys(one.strip() for one in topics.split(","))) if topics is not None else CLIP_TOPICS
    if not set(asked) <= set(CLIP_TOPICS):
        raise click.UsageError(f"--topics takes {' and '.join(CLIP_TOPICS)}, with a comma.")
    request = Request(
        parse_bound(since, from_offsets, "from"), parse_bound(until, to_offsets, "to"), tuple(sorted(asked)), site, pseudo, release
    )
    manifest = _run(request, out, as_json)
    if as_json:
        click.echo(json.dumps(manifest))
    elif out is not None:
        _told(manifest)
        click.echo(out)
    else:
        click.echo(f"{manifest['answered']} clips answered by {release}, left out: {manifest['left_out'] or 'none'}.")
        click.echo(manifest["run_id"])


def _run(request: Request, out: Path | None, quiet: bool) -> dict[str, Any]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bars

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Bars(*columns, console=Console(stderr=True), transient=True, disable=quiet) as bars:
        progress = _shown(bars)
        if out is not None:
            from trainer.replay.dataset import make_dataset

            require_known(get_settings(), request.site)  # of a site without a release people cannot have said anything
            return make_dataset(get_settings(), request, out.expanduser().absolute(), progress)
        from trainer.replay.answers import replay_release

        _check_name(request.release or "")
        manifest = replay_release(get_settings(), request, progress)
        if not manifest["answered"] and not manifest["left_out"]:  # a site's clips may lie there before it has a release
            require_known(get_settings(), request.site)
        return manifest


def _shown(bars: Any) -> Progress:
    """Progress as one bar a topic."""
    from trainer.replay.run import Plan, Progress

    class Shown(Progress):
        def __init__(self) -> None:
            self._totals: dict[str, int] = {}
            self._tasks: dict[str, Any] = {}

        def begin(self, plan: Plan) -> None:
            for span in (plan.clips, plan.said):
                for topic, parts in span.end.items():
                    self._totals[topic] = sum(end - span.start[topic][part] for part, end in parts.items())
            for one in plan.clips.removed:
                bars.console.print(str(one))

        def done(self, topic: str, records: int) -> None:
            if topic not in self._tasks:
                self._tasks[topic] = bars.add_task(f"Reading {topic}", total=self._totals.get(topic))
            bars.update(self._tasks[topic], advance=records)

    return Shown()


def _check_name(release: str) -> None:
    from pydantic import TypeAdapter, ValidationError

    from soundscape.events import Name

    try:
        TypeAdapter(Name).validate_python(release)
        known = release not in (".", "..")
    except ValidationError:
        known = False
    if not known:
        raise Invalid(Reason.BAD_REQUEST, f"{release!r} is no name of a release; `soundscape release list` shows them.")


def _told(manifest: dict[str, Any]) -> None:
    """The counts of a dataset as a table."""
    from rich.console import Console
    from rich.table import Table

    console = Console(width=terminal_width())
    table = Table("kind", "provenance", "rows", title=f"{manifest['seconds'] / 60:.1f} minutes of sound, digest {manifest['digest'][:12]}")
    for kind, by in manifest["counts"].items():
        for provenance, rows in by.items():
            table.add_row(kind, provenance, str(rows))
    console.print(table)
    for why, rows in manifest["left_out"].items():
        console.print(f"left out: {rows} ({why})")
    for line in manifest["removed"]:
        console.print(line)
