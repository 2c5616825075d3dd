"""`soundscape bench bare`: what one machine can hear at most, beside the plain loop, without the stack."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from contextlib import ExitStack, closing
from typing import TYPE_CHECKING, Any

import click

from monitoring.bench_show import show
from monitoring.bench_site import SITE, deployed, soundscape
from soundscape.errors import Invalid, Reason
from soundscape.options import NAME
from soundscape.settings import Settings, get_settings

if TYPE_CHECKING:
    from monitoring.bare import Arrangement, Speed
    from monitoring.hearing import Way
    from soundscape.release import LoadedRelease

PLAIN_BATCH = 12
"""Windows in one inference of the plain loop: a whole minute's, which suits it best."""


@click.command()
@click.option("--release", type=NAME, help="A release of one ONNX member, measured beside.")
@click.option("--minutes", default=32, show_default=True, type=click.IntRange(4, 2000), help="Recorded minutes heard in one turn.")
@click.option("--rounds", default=5, show_default=True, type=click.IntRange(1, 100), help="Turns of each.")
@click.option("--json", "as_json", is_flag=True, help="For machines.")
def bare(release: str | None, minutes: int, rounds: int, as_json: bool) -> None:
    """Windows a second without broker and server, beside the plain loop: librosa window by window, int8 EfficientNet-B0."""
    from monitoring.bare import Arrangement, arrangements, fastest
    from monitoring.hearing import Way
    from monitoring.plain import by_librosa
    from monitoring.sound import forest

    settings = get_settings()
    mine = way_of(settings, release) if release else None
    if not (settings.releases / SITE).exists():
        soundscape("release", "bench")
    network = way_of(settings, SITE)
    sounds = ([forest(60.0, seed) for seed in range(8)] * minutes)[:minutes]
    tried = arrangements()
    contenders = {"plain": (Way(network.model, by_librosa), Arrangement(tried[0].processes, 1, PLAIN_BATCH))}
    for name, way in {"same_network": network, "release": mine}.items():
        if way is not None:
            contenders[name] = way, fastest(way, tried, sounds, telling(name))
    found = in_turns(contenders, sounds, rounds)
    said: dict[str, Any] = {"minutes": minutes, "rounds": rounds, "release_name": release}
    for name, (_, arrangement) in contenders.items():
        said[name] = {**summary(found[name], found["plain"]), "arrangement": str(arrangement)}
    show(said, as_json)


def in_turns(contenders: dict[str, tuple[Way, Arrangement]], minutes: list[bytes], rounds: int) -> dict[str, list[Speed]]:
    """Speeds of each, one a round: others who use the machine disturb all alike."""
    from monitoring.bare import BareLoop

    with ExitStack() as stack:
        loops = {name: stack.enter_context(closing(BareLoop(*how))) for name, how in contenders.items()}
        turns = [{name: loop.speed(minutes) for name, loop in loops.items()} for _ in range(rounds)]
    return {name: [turn[name] for turn in turns] for name in contenders}


def summary(mine: list[Speed], plain: list[Speed]) -> dict[str, Any]:
    """Medians over the rounds; the ratio is that of each round, with the least and the greatest."""
    ratios = sorted(one.sound_per_s / other.sound_per_s for one, other in zip(mine, plain, strict=True))
    middle = sorted(mine)[len(mine) // 2]
    return {
        "windows_per_s": round(statistics.median(one.windows_per_s for one in mine), 1),
        "ratio": round(statistics.median(ratios), 2),
        "ratio_from": round(ratios[0], 2),
        "ratio_to": round(ratios[-1], 2),
        **{f"{name}_ms": spent for name, spent in middle.cpu_ms().items()},
    }


def way_of(settings: Settings, name: str) -> Way:
    """How the bare loop hears with a release. Raises Invalid for one that is no single ONNX model."""
    from soundscape.release import named_release

    loaded = named_release(settings.releases, name)
    way = _single_onnx(loaded)
    if way is None:
        members = ", ".join(f"{member.name} ({member.runtime})" for member in loaded.release.members)
        raise Invalid(Reason.BAD_REQUEST, f"The bare loop runs releases of one ONNX member; {name} has {members}.")
    return way


def site_way(settings: Settings, site: str) -> Way | None:
    """How the bare loop hears with a site's release; None where it cannot run it."""
    from soundscape.release import named_release

    champion = deployed(settings).get(site)
    if champion is None:
        raise Invalid(Reason.NO_RELEASE, f"Site {site} has no release; deploy one with `soundscape deploy RELEASE --site {site}`.")
    return _single_onnx(named_release(settings.releases, champion))


def _single_onnx(loaded: LoadedRelease) -> Way | None:
    """The one ONNX member of a release with its own features; None where there are more, or it is none."""
    from monitoring.hearing import Way

    member = loaded.release.members[0]
    if len(loaded.release.members) > 1 or member.runtime != "onnx":
        return None
    return Way(loaded.folder / member.file, loaded.release.features[member.feature_fingerprint].compute)


def telling(name: str) -> Callable[[str], None]:
    """What says a line about a contender while the rest is measured."""
    return lambda line: click.echo(f"{name}, {line}", err=True)
