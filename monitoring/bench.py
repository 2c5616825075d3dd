"""`soundscape bench`: latency and throughput of the whole stack beside the bare loop, measured in one run."""

from __future__ import annotations

import asyncio
import statistics
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from monitoring.bench_loop import change, feedback, shadow
from monitoring.bench_show import percentile, show
from monitoring.bench_site import SITE, deployed, prepared
from soundscape.errors import Invalid, Reason
from soundscape.options import NAME
from soundscape.settings import Port, Settings, get_settings

if TYPE_CHECKING:
    from monitoring.answers import Answers


@click.group()
def bench() -> None:
    """Measure the running stack, or training; ratios are taken side by side in one run."""


for _one in (feedback, change, shadow, *(entry.load() for entry in entry_points(group="soundscape.bench"))):
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
        if model := bare_model(settings, site):
            bare = BareLoop(model, Arrangement(1, 1, 12))
            bare_ms = bare.clip_ms(clips, 40)
            bare.close()
        answers = Answers(settings)
        loads = Users(settings.url(Port.GATEWAY), key, clips, users)
        asyncio.run(loads.run(3.0, rate))
        if backlog:
            started = time.time()
            ids = publish_minutes(settings, site, minutes)
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


@bench.command()
@click.option("--minutes", default=120, show_default=True, type=click.IntRange(8, 2000), help="Recorded minutes to work off.")
@click.option("--json", "as_json", is_flag=True, help="For machines.")
def stream(minutes: int, as_json: bool) -> None:
    """Windows a second of the whole stream, from producer to prediction, beside the bare loop before and after it."""
    from monitoring.answers import Answers, stage_medians
    from monitoring.bare import BareLoop, arrangements
    from monitoring.sound import forest

    settings = get_settings()
    with prepared(settings, SITE):
        pass
    model = bare_model(settings, SITE)
    assert model is not None
    sounds = [forest(60.0, seed) for seed in range(8)]
    some = (sounds * minutes)[: max(16, minutes // 4)]
    best, speed = None, 0.0
    for arrangement in arrangements():
        loop = BareLoop(model, arrangement)
        found = loop.windows_per_s(some)
        loop.close()
        click.echo(f"bare loop, {arrangement}: {found:.1f} windows a second", err=True)
        if found > speed:
            best, speed = arrangement, found
    assert best is not None
    answers = Answers(settings)
    warm = publish_minutes(settings, SITE, 8)
    answers.wait(warm, 300.0)
    bare = [bare_speed(model, best, some)]
    started = time.time()
    ids = publish_and_read(settings, minutes, answers)
    answers.wait(ids, 900.0)
    spent = max(answers.found[one][1] for one in ids) - started
    windows = sum(len(answers.found[one][0].windows) for one in ids)
    bare.append(bare_speed(model, best, some))
    answers.close()
    said = {
        "windows": windows,
        "windows_per_s": round(windows / spent, 1),
        "bare_windows_per_s": round(statistics.mean(bare), 1),
        "ratio": round(windows / spent / statistics.mean(bare), 3),
        "stages": stage_medians(answers.found[one][0] for one in ids),
    }
    click.echo(f"bare loop: {best}; before {bare[0]:.1f}, after {bare[1]:.1f} windows a second", err=True)
    show(said, as_json)


def bare_speed(model: Path, arrangement: Any, minutes: list[bytes]) -> float:
    """One measurement of the bare loop, its processes ended after it."""
    from monitoring.bare import BareLoop

    loop = BareLoop(model, arrangement)
    found = loop.windows_per_s(minutes)
    loop.close()
    return found


def bare_model(settings: Settings, site: str) -> Path | None:
    """The ONNX file of a site's one log-mel member; None where the bare loop cannot run it."""
    from soundscape.release import named_release

    champion = deployed(settings).get(site)
    if champion is None:
        raise Invalid(Reason.NO_RELEASE, f"Site {site} has no release; deploy one with `soundscape deploy RELEASE --site {site}`.")
    loaded = named_release(settings.releases, champion)
    members = loaded.release.members
    return loaded.folder / members[0].file if len(members) == 1 and members[0].runtime == "onnx" else None


def publish_minutes(settings: Settings, site: str, minutes: int) -> set[str]:
    """Publish recorded minutes as fast as the broker acknowledges; returns their ids."""
    from monitoring.sound import forest
    from soundscape.audio import sha256
    from soundscape.events import MinuteRecorded, clip_id
    from soundscape.kafka import broker_errors, new_producer
    from soundscape.topics import RECORDINGS
    from soundscape.wire import encode

    sounds = [forest(60.0, seed) for seed in range(8)]
    digests = [sha256(sound) for sound in sounds]
    producer, now, sent, ids = new_producer(settings), datetime.now(UTC), [], set()
    with broker_errors():
        for n in range(minutes):
            recorder, moment = f"bench-{n % 8}", now + timedelta(minutes=n)
            event = MinuteRecorded.model_validate(
                {
                    "clip_id": clip_id(site, recorder, moment, digests[n % 8]),
                    "site": site,
                    "stream": recorder,
                    "recorder": recorder,
                    "recorded_at": moment,
                    "sha256": digests[n % 8],
                    "published_at": datetime.now(UTC),
                    "audio": sounds[n % 8],
                }
            )
            message = encode(event)
            sent.append(producer.send(RECORDINGS.name, key=message.key, value=message.value, headers=message.headers))
            ids.add(str(event.clip_id))
        for one in sent:
            one.get(timeout=120)
        producer.close()
    return ids


def publish_and_read(settings: Settings, minutes: int, answers: Answers) -> set[str]:
    """Publish recorded minutes to the benchmark's site while answers are read; their ids. Raises what stopped the publishing."""
    with ThreadPoolExecutor(1) as pool:
        sending = pool.submit(publish_minutes, settings, SITE, minutes)
        while not sending.done():
            answers.read()
        return sending.result()
