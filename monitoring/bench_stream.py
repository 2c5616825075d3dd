"""`soundscape bench stream`: throughput of the whole stack beside the bare loop, and beside BirdNET, measured in one run."""

from __future__ import annotations

import statistics
import time
from typing import TYPE_CHECKING, Any

import click

from monitoring.bench_bare import site_way, telling
from monitoring.bench_minutes import publish_and_read, publish_minutes
from monitoring.bench_show import show
from monitoring.bench_site import SITE, prepared
from soundscape.audio import WINDOW_S
from soundscape.errors import Invalid, Reason
from soundscape.options import NAME
from soundscape.settings import Settings, get_settings

if TYPE_CHECKING:
    from monitoring.hearing import Way


@click.command()
@click.option("--minutes", default=120, show_default=True, type=click.IntRange(8, 2000), help="Recorded minutes to work off.")
@click.option("--site", type=NAME, default=SITE, show_default=True, help="Another site measures its own release.")
@click.option("--peer", type=click.Choice(["birdnet"]), help="Who else hears the same minutes in the same run, without a stack.")
@click.option("--json", "as_json", is_flag=True, help="For machines.")
def stream(minutes: int, site: str, peer: str | None, as_json: bool) -> None:
    """Windows a second of the whole stream, from producer to prediction, beside the bare loop before and after it."""
    from monitoring.answers import Answers, stage_medians
    from monitoring.bare import arrangements, bare_speed, fastest
    from monitoring.cpu import cpu_seconds, cpu_shares, stack_pids
    from monitoring.sound import forest

    settings = get_settings()
    other = birdnet(settings) if peer else None
    with prepared(settings, site):
        pass
    model = site_way(settings, site)
    if model is None:
        raise Invalid(Reason.BAD_REQUEST, f"The bare loop runs releases of one ONNX member; that of {site} is none.")
    sounds = [forest(60.0, seed) for seed in range(8)]
    some = (sounds * minutes)[: max(16, minutes // 4)]
    ways = {"bare loop": (model, arrangements())} | ({"BirdNET alone": (other, arrangements((1, 20)))} if other else {})
    best = {name: (way, fastest(way, tried, some, telling(name))) for name, (way, tried) in ways.items()}
    answers = Answers(settings)
    warm = publish_minutes(settings, site, sounds, 8)
    answers.wait(warm, 300.0)
    beside = {name: [bare_speed(*how, some)] for name, how in best.items()}
    pids = stack_pids()
    before, started = cpu_seconds(pids), time.time()
    ids = publish_and_read(settings, site, sounds, minutes, answers)
    answers.wait(ids, 900.0)
    shares = cpu_shares(before, cpu_seconds(pids), time.time() - started)
    spent = max(answers.found[one][1] for one in ids) - started
    windows = sum(len(answers.found[one][0].windows) for one in ids)
    for name, how in best.items():
        beside[name].append(bare_speed(*how, some))
        told = ", ".join(f"{one.windows_per_s:.1f}" for one in beside[name])
        telling(name)(f"{how[1]}: {told} windows a second before and after the stream")
    answers.close()
    bare = statistics.mean(one.windows_per_s for one in beside["bare loop"])
    said: dict[str, Any] = {
        "windows": windows,
        "windows_per_s": round(windows / spent, 1),
        "bare_windows_per_s": round(bare, 1),
        "ratio": round(windows / spent / bare, 3),
        "stages": stage_medians(answers.found[one][0] for one in ids),
        "bare_cpu_ms": beside["bare loop"][-1].cpu_ms(),
        "cpu": shares,
    }
    if other:
        alone = statistics.mean(one.sound_per_s for one in beside["BirdNET alone"])
        said |= {
            "sound_per_s": round(windows / spent * WINDOW_S, 1),
            "birdnet_sound_per_s": round(alone, 1),
            "times_birdnet": round(windows / spent * WINDOW_S / alone, 2),
        }
    show(said, as_json)


def birdnet(settings: Settings) -> Way:
    """BirdNET's own model, alone. Raises Invalid if set-up has not fetched it."""
    from monitoring.hearing import Way, for_birdnet

    model = settings.birdnet / "model.tflite"
    if not model.is_file():
        raise Invalid(Reason.BAD_REQUEST, f"BirdNET is not here ({settings.birdnet} lacks {model.name}); run `make setup`.")
    return Way(model, for_birdnet)
