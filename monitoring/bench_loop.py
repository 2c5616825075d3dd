"""`soundscape bench feedback | change | shadow`: what the loop costs those who wait: a judgement's way, a change of release, a shadow."""

from __future__ import annotations

import asyncio
import statistics
import time
from contextlib import suppress
from typing import TYPE_CHECKING

import click

from monitoring.bench_show import percentile, show
from monitoring.bench_site import SITE, audited, prepared, soundscape
from soundscape.errors import Invalid, Reason, Unavailable
from soundscape.settings import Port, get_settings

if TYPE_CHECKING:
    from monitoring.answers import Answers
    from monitoring.load import Sent, Users

SOUNDS = 8
"""Different clips; each is sent again and again as another one."""
SHARE = 0.5
"""Of the streams that the canary answers: both releases are at work."""
SETTLE_S = 5.0
"""Seconds of load before a stretch counts: connections are made, the shadow knows of its candidate, what nobody names is unloaded."""
LONGEST_S = 1800.0
"""Seconds of load during a change: it ends when the change has."""
CATCH_UP_S = 300.0
"""Seconds that the shadow is given to catch up after a stretch."""
_users = click.option("--users", default=8, show_default=True, type=click.IntRange(1, 64))
_rate = click.option(
    "--rate", default=1.0, show_default=True, type=click.FloatRange(min=0, min_open=True), help="Clips a second and user (open loop)."
)
_json = click.option("--json", "as_json", is_flag=True, help="For machines.")


@click.command()
@_users
@click.option("--flags", default=40, show_default=True, type=click.IntRange(1, 2000), help="Judgements in all, spread over the users.")
@click.option("--pause", default=2.0, show_default=True, type=click.FloatRange(min=0), help="Mean seconds between two of one user.")
@_json
def feedback(users: int, flags: int, pause: float, as_json: bool) -> None:
    """From the start of a guide's POST to the server-sent summary of the tour that counts the judgement.

    A user judges one answer after the other. A connection carries one summary a second at most, so a judgement within a second of the
    last summary waits for the rest of that second: with --pause 0 every one does, and the result is that second. Pauses are drawn
    evenly between none and twice the mean.
    """
    import aiohttp

    from monitoring.judging import judging
    from monitoring.sound import forest

    settings = get_settings()
    sounds = [forest(5.0, seed) for seed in range(SOUNDS)]
    with prepared(settings, SITE) as key:
        try:
            judged = asyncio.run(judging(settings.url(Port.GATEWAY), key, sounds, users, flags, pause))
        except (aiohttp.ClientError, TimeoutError) as error:
            raise Unavailable(f"The gateway does not answer ({type(error).__name__}); see `soundscape status`.") from error
        except ValueError as error:
            raise Invalid(Reason.BAD_REQUEST, str(error)) from error
    good = [one.ms for one in judged if one.problem is None]
    _tell([one.problem for one in judged])
    said = {
        "users": users,
        "flags": len(judged),
        "errors": len(judged) - len(good),
        "median_ms": round(statistics.median(good), 1) if good else None,
        "p95_ms": p95(good),
    }
    show(said, as_json)


@click.command()
@_users
@_rate
@click.option("--seconds", default=30.0, show_default=True, type=click.FloatRange(1, 600), help="Of calm before the change.")
@click.option("--hold", default=5.0, show_default=True, type=click.FloatRange(min=0), help="Seconds after each step of the change.")
@_json
def change(users: int, rate: float, seconds: float, hold: float, as_json: bool) -> None:
    """p95 while a release is offered, put on a canary, promoted and rolled back, beside the p95 before; then the audit.

    The change is counted from the first command's start to `--hold` seconds after the last one's end; the commands run on this machine
    too, and are part of it.
    """
    from monitoring.beside import beside

    settings = get_settings()
    with prepared(settings, SITE) as key, beside(settings) as copy:
        before, during = asyncio.run(changed(_load(settings.url(Port.GATEWAY), key, users), steps(copy), seconds, rate, hold))
    counted = audited()
    said = {
        "users": users,
        "rate": rate,
        "before_p95_ms": p95(good(before)),
        "during_p95_ms": p95(good(during)),
        "ratio": ratio(good(during), good(before)),
        "errors": _tell([one.problem for one in (*before, *during)]),
        "lost": counted["lost"],
        "twice": counted["twice"],
    }
    click.echo(f"{len(before)} clips before, {len(during)} during the change; the audit: {counted}", err=True)
    show(said, as_json)


def steps(copy: str) -> list[tuple[str, ...]]:
    """The commands of a change and of its way back. Forced: the copy was never at the gate, and its trial is a few seconds long."""
    site = ("--site", SITE)
    return [
        ("candidate", copy, *site, "--force"),
        ("canary", f"{SHARE:g}", *site, "--force"),
        ("promote", *site, "--force"),
        ("rollback", *site),
    ]


async def changed(
    loads: Users, commands: list[tuple[str, ...]], seconds: float, rate: float, hold: float
) -> tuple[list[Sent], list[Sent]]:
    """(what was sent before, what was sent during the change). Raises Invalid with the words of the command that was refused."""
    await loads.run(SETTLE_S, rate)
    before = await loads.run(seconds, rate)
    until = asyncio.Event()
    sending = asyncio.create_task(loads.run(LONGEST_S, rate, until))
    try:
        for command in commands:
            began = time.monotonic()
            await asyncio.to_thread(soundscape, *command)
            click.echo(f"{command[0]}: {time.monotonic() - began:.1f} s", err=True)
            await asyncio.sleep(hold)
    finally:
        until.set()
    return before, await sending


@click.command()
@_users
@_rate
@click.option("--seconds", default=30.0, show_default=True, type=click.FloatRange(1, 600), help="Of each of the four stretches.")
@_json
def shadow(users: int, rate: float, seconds: float, as_json: bool) -> None:
    """p95 of the champion without and with a candidate in the shadow, in turns (twice each), and how far the shadow lags.

    The lag is the larger of the two: clips of a stretch that the shadow had not answered at its end. It is given time to catch up
    before the next stretch begins.
    """
    from monitoring.answers import Answers
    from monitoring.beside import beside
    from soundscape.topics import SHADOW_PREDICTIONS

    settings = get_settings()
    sent: dict[bool, list[Sent]] = {False: [], True: []}
    lags = []
    with prepared(settings, SITE) as key, beside(settings) as copy:
        loads, answers = _load(settings.url(Port.GATEWAY), key, users), Answers(settings, SHADOW_PREDICTIONS)
        try:
            for shadowed in (False, True, False, True):
                if shadowed:
                    soundscape("candidate", copy, "--site", SITE, "--force")
                asyncio.run(loads.run(SETTLE_S, rate))
                stretch = asyncio.run(loads.run(seconds, rate))
                sent[shadowed] += stretch
                if shadowed:
                    lags.append(caught_up(answers, stretch, time.time()))
                    soundscape("rollback", "--site", SITE)
        finally:
            answers.close()
    said = {
        "users": users,
        "rate": rate,
        "without_p95_ms": p95(good(sent[False])),
        "with_p95_ms": p95(good(sent[True])),
        "ratio": ratio(good(sent[True]), good(sent[False])),
        "shadow_lag": max(lag for lag, _ in lags),
        "errors": _tell([one.problem for one in (*sent[False], *sent[True])]),
    }
    show(said, as_json)


def caught_up(answers: Answers, sent: list[Sent], ended: float) -> tuple[int, float | None]:
    """(clips that the shadow had not answered when the load ended, seconds until it had); None: not within CATCH_UP_S.

    By the times of the shadow's records, so that nobody needs to look while the load runs. `ended` in seconds since 1970.
    """
    wanted = {one.clip_id for one in sent if one.clip_id is not None}
    with suppress(Unavailable):  # how many are left is said below
        answers.wait(wanted, CATCH_UP_S)
    at = [answers.found[clip][1] for clip in wanted & answers.found.keys()]
    lag = len(wanted) - sum(moment <= ended for moment in at)
    spent = max(0.0, max(at, default=ended) - ended) if len(at) == len(wanted) else None
    how = "not caught up" if spent is None else f"caught up in {spent:.1f} s"
    click.echo(f"The shadow lagged by {lag} of {len(wanted)} clips; {how}.", err=True)
    return lag, spent


def good(sent: list[Sent]) -> list[float]:
    """Milliseconds of the clips that were answered."""
    return [one.ms for one in sent if one.problem is None]


def p95(ms: list[float]) -> float | None:
    """The 95th percentile, or None of nothing."""
    return round(percentile(ms, 0.95), 1) if ms else None


def ratio(these: list[float], those: list[float]) -> float | None:
    """How many times the 95th percentile of those that of these is."""
    return round(percentile(these, 0.95) / percentile(those, 0.95), 2) if these and those else None


def _load(url: str, key: str, users: int) -> Users:
    from monitoring.load import Users
    from monitoring.sound import forest

    return Users(url, key, [forest(5.0, seed) for seed in range(SOUNDS)], users)


def _tell(problems: list[str | None]) -> int:
    """How many there are; the first is said."""
    found = [problem for problem in problems if problem is not None]
    if found:
        click.echo(f"First problem: {found[0]}", err=True)
    return len(found)
