"""The recommended ensemble of a data folder: every member that can be had here, trained within a given time, and fused."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

from soundscape.release import LoadedRelease, load_release
from soundscape.settings import Settings
from trainer.data import store
from trainer.data.prepare import Report
from trainer.members.body import missing
from trainer.members.models import BIRDNET_HEAD, TAGGER_HEAD
from trainer.progress import Progress
from trainer.training.mixing import RECIPE, Recipe
from trainer.training.plan import Plan
from trainer.training.train import made_before, register, train

ENSEMBLE = "ensemble"
NETWORK = "small"
"""The network that is trained from scratch beside the heads (docs/decisions/0009-ensemble.md)."""
NETWORK_SHARE = 0.6
"""Of the time given, for the network; the rest is for hearing with the pretrained models and for fusing."""
HEARING = {BIRDNET_HEAD: 1 / 45, TAGGER_HEAD: 1 / 200}
"""Seconds of work for a second of sound, on two cores; composed windows come on top."""
COMPOSED_S = 3000 * 5.0
"""Seconds of sound in the windows composed for a head."""


def recommend(
    settings: Settings,
    prepared: store.Prepared,
    report: Report,
    minutes: float,
    name: str | None,
    again: bool,
    say: Callable[[str], None],
    progress: Progress,
    recipe: Recipe = RECIPE,
    budget_mb: float | None = None,
    teacher: LoadedRelease | None = None,
) -> LoadedRelease:
    """Train each member and fuse them; what the same data and time have already made is used again.

    A member whose pretrained file is not here, or that would hear longer than it may, is left out, said aloud. Raises as `train`.
    """
    plan: dict[str, Any] = {"model": ENSEMBLE, "minutes": minutes, "budget_mb": budget_mb}
    plan["recipe"] = json.loads(json.dumps(asdict(recipe)))
    heads = [head for head in HEARING if _can(prepared, head, minutes, say)]
    if not heads:
        say(f"No pretrained model takes part: {NETWORK} answers alone.")
        return train(settings, prepared, report, Plan(model=NETWORK, minutes=minutes, recipe=recipe), name, again, say, teacher=teacher)
    digest = hashlib.sha256(f"{prepared.digest}{minutes}{heads}{recipe}{budget_mb}".encode()).hexdigest()[:8]
    title = name or f"{prepared.folder.name.rpartition('-')[0]}-{ENSEMBLE}-{digest}"
    if (before := made_before(settings.releases / title, prepared, plan, title)) is not None and not again:
        say("The same data and time have made this release already; --again trains anew.")
        return before
    shares = {**dict.fromkeys(heads, 0.0), NETWORK: minutes * NETWORK_SHARE}
    plans = [Plan(model=model, minutes=share, recipe=recipe) for model, share in shares.items()]
    with _tracked(settings, prepared, title, say) as tracking:
        parts = [train(settings, prepared, report, one, None, again, say, teacher=teacher) for one in plans]
        return fuse_parts(settings, prepared, parts, title, plan, tracking, say, progress, budget_mb)


def fuse_parts(
    settings: Settings,
    prepared: store.Prepared,
    parts: Sequence[LoadedRelease],
    title: str,
    plan: dict[str, Any],
    tracking: Any,
    say: Callable[[str], None],
    progress: Progress,
    budget_mb: float | None = None,
) -> LoadedRelease:
    """Fuse releases into the release `title`, tracked in the open run. Raises Invalid as `trainer.releases.ensemble.ensemble`."""
    from trainer.evaluation.plots import reliability_plot
    from trainer.releases.ensemble import ensemble
    from trainer.releases.package import Origin
    from trainer.training.tracking import git_commit

    commit = git_commit()
    names = [part.release.name for part in parts]
    say(f"Fusing {', '.join(names)} ...")
    tracking.tags({"git_commit": commit, "data_digest": prepared.digest, "release": title, "parts": ", ".join(names)})
    origin = Origin(title, commit, tracking.run_id, {"plan": plan, "parts": names})
    folder, part = settings.releases / title, settings.releases / f".{title}.part"
    shutil.rmtree(part, ignore_errors=True)
    ensemble(prepared, parts, part, origin, say, progress, budget_mb)
    shutil.rmtree(folder, ignore_errors=True)  # what --again makes anew
    part.rename(folder)  # whole or not at all: until then it has no weights, and nobody may deploy it
    made = load_release(folder)
    tracking.metrics({f"weight.{member.name}": member.weight for member in made.release.members})
    tracking.text(reliability_plot(made.release.metrics["calibration"]["reliability"]), "plots/reliability.svg")
    register(tracking, made, prepared, say)
    return made


def fuse_named(
    settings: Settings,
    prepared: store.Prepared,
    parts: Sequence[LoadedRelease],
    name: str | None,
    say: Callable[[str], None],
    progress: Progress,
    budget_mb: float | None = None,
) -> LoadedRelease:
    """Fuse releases that are there. Raises Invalid as `fuse_parts`, or if `name` is another release's."""
    digest = hashlib.sha256(f"{[part.digest for part in parts]}{budget_mb}".encode()).hexdigest()[:8]
    title = name or f"{prepared.folder.name.rpartition('-')[0]}-{ENSEMBLE}-{digest}"
    plan = {"model": ENSEMBLE, "parts": [part.digest for part in parts], "budget_mb": budget_mb}
    if (before := made_before(settings.releases / title, prepared, plan, title)) is not None:
        say("The same releases were fused already.")
        return before
    with _tracked(settings, prepared, title, say) as tracking:
        return fuse_parts(settings, prepared, parts, title, plan, tracking, say, progress, budget_mb)


def _tracked(settings: Settings, prepared: store.Prepared, title: str, say: Callable[[str], None]) -> Any:
    from trainer.training.tracking import tracked

    return tracked(settings, prepared.folder, title, say, prepared.folder / "models" / title / "mlflow_run.txt")


def _can(prepared: store.Prepared, head: str, minutes: float, say: Callable[[str], None]) -> bool:
    if why := missing(head):
        say(f"{head} is left out: {why}")
        return False
    seconds = sum(item.seconds for item in prepared.items if item.role != store.BED) + COMPOSED_S
    needed, left = seconds * HEARING[head] / 60, minutes * (1 - NETWORK_SHARE)
    if needed > left:
        say(f"{head} is left out: it would hear for {needed:.0f} min, and {left:.0f} of {minutes:g} min are for that; give more --minutes.")
        return False
    return True
