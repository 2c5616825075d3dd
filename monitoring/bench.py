"""`soundscape bench`: its commands, and the latency of the whole stack beside the bare loop, measured in one run."""

from __future__ import annotations

import asyncio
import statistics
import time
from contextlib import closing
from importlib.metadata import entry_points
from typing import Any

import click

from monitoring.bench_bare import bare, site_way
from monitoring.bench_loop import change, feedback, shadow
from monitoring.bench_minutes import publish_minutes
from monitoring.bench_show import percentile, show
from monitoring.bench_site import SITE, prepared
from monitoring.bench_stream import stream
from soundscape.options import NAME
from soundscape.settings import Port, get_settings


@click.group()
def bench() -> None:
    """Measure the running stack, or training; ratios are taken side by side in one run."""


for _one in (bare, stream, feedback, change, shadow, *(entry.load() for entry in entry_points(group="soundscape.bench"))):
    bench.add_command(_one)


@bench.command()
@click.option("--users", default=1, show_default=True, type=click.IntRange(1, 64))
@click.option("--rate", type=click.FloatRange(min=0, min_open=True), help="Clips a second and user (open loop); closed loop unless given.")
@click.option("--backlog", is_flag=True, help="Work off a backlog of recorded minutes meanwhile.")
@click.option("--minutes", default=200, show_default=True, type=click.IntRange(1, 2000), help="Size of the backlog.")
@click.option("--seconds", default=20.0, show_default=True, type=click.FloatRange(1, 600))
@click.option("--site", type=NAME, default=SITE, show_default=True, help="Another site measures its own release.")
@click.option("--json", "as_json", is_flag=True, help="For machines.")
def latency(users: int, rate: float | None, backlog: bool, minutes: int, seconds: float, site: str, as_json: bool) -> None:
    """From HTTP request with a clip of 5 s to the prediction in the response."""
    from monitoring.answers import Answers, stage_medians
    from monitoring.bare import Arrangement, BareLoop
    from monitoring.load import Users
    from monitoring.sound import forest

    settings = get_settings()
    clips = [forest(5.0, seed) for seed in range(8)]
    bare_ms, ids, started = None, set[str](), 0.0
    with prepared(settings, site) as key:
        if model := site_way(settings, site):
            with closing(BareLoop(model, Arrangement(1, 1, 12))) as loop:
                bare_ms = loop.clip_ms(clips, 40)
        answers = Answers(settings)
        loads = Users(settings.url(Port.GATEWAY), key, clips, users)
        asyncio.run(loads.run(3.0, rate))
        if backlog:
            sounds = [forest(60.0, seed) for seed in range(8)]
            started = time.time()
            ids = publish_minutes(settings, site, sounds, minutes)
        sent = asyncio.run(loads.run(seconds, rate))
    answers.read(500)
    mine = [answers.found[one.clip_id][0] for one in sent if one.clip_id in answers.found]
    good = [one.ms for one in sent if one.problem is None]
    problems = [one.problem for one in sent if one.problem]
    said: dict[str, Any] = {
        "users": users,
        "rate": rate,
        "backlog": minutes if backlog else 0,
        "clips": len(sent),
        "errors": len(problems),
        "median_ms": round(statistics.median(good), 1) if good else None,
        "p95_ms": round(percentile(good, 0.95), 1) if good else None,
        "bare_ms": round(bare_ms, 1) if bare_ms else None,
        "stages": stage_medians(mine),
    }
    if backlog:
        during = {clip for clip in ids & answers.found.keys()}
        left = len(ids) - len(during)
        click.echo(f"{len(during)} of {len(ids)} recorded minutes were worked off while the users sent; waiting for {left}.", err=True)
        answers.wait(ids, 600.0)
        last = max(answers.found[one][1] for one in ids)
        said["backlog_windows_per_s"] = round(sum(len(answers.found[one][0].windows) for one in ids) / (last - started), 1)
    answers.close()
    if problems:
        click.echo(f"First problem: {problems[0]}", err=True)
    show(said, as_json)
