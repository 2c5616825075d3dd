"""From a data folder to a registered release, step by step; each step goes on where an interrupted one stopped."""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from soundscape.errors import Broken, Invalid
from soundscape.release import LoadedRelease, Member, load_release, write_release
from soundscape.settings import Settings
from trainer.data import store
from trainer.data.prepare import Report
from trainer.members.models import HEADS, TAGGER, build
from trainer.progress import tenths
from trainer.training.learn import EPOCHS, begin_with
from trainer.training.plan import Plan

if TYPE_CHECKING:
    from trainer.releases.package import Origin
    from trainer.training.tracking import Run

LICENCE = "Own weights; {begun}trained on {source} only, whose recordings keep their licences"


def train(
    settings: Settings,
    prepared: store.Prepared,
    report: Report,
    plan: Plan,
    name: str | None,
    again: bool,
    say: Callable[[str], None],
    champion: LoadedRelease | None = None,
    teacher: LoadedRelease | None = None,
) -> LoadedRelease:
    """Train by plan and make a release of it; one that the same data and plan have already made is used again.

    `champion` is the release of `plan.begins_with`; `teacher` the one whose answers are learnt: that of `plan.taught_by`, which
    `trainer.training.taught.hear` has heard, or of the recipe's pseudo-labels. Its licences bind what comes of it.

    Raises Invalid if `name` is another release's or a pretrained model is wanted and not here, Broken if the training or the export fails.
    """
    run = run_name(prepared, plan)
    release_name = name or run
    folder = settings.releases / release_name
    if (before := made_before(folder, prepared, plan.plain(), release_name)) is not None and not again:
        say("The same data and plan have made this release already; --again trains anew.")
        return before
    home = prepared.folder / "models" / run
    if again and home.exists():
        home.rename(home.with_name(f"{run}.{time.time_ns()}"))
    from trainer.releases.package import Origin
    from trainer.training.tracking import git_commit, tracked

    commit = git_commit()
    with tracked(settings, prepared.folder, release_name, say, home / "mlflow_run.txt") as tracking:
        tracking.params({**_flat(asdict(plan)), "labels": len(prepared.labels), "train_clips": len(prepared.of(store.TRAIN))})
        tracking.tags({"git_commit": commit, "data_digest": prepared.digest, "feature_fingerprint": prepared.spec.fingerprint,
                       "data": str(prepared.source.name), "release": release_name})  # fmt: skip
        if (prepared.folder / "report.json").is_file():
            tracking.artifact(prepared.folder / "report.json", "prepare")
        tracking.metrics({f"data.{role}.{what}": n for role, one in report.counts.items() for what, n in one.items()})

        part = settings.releases / f".{release_name}.part"
        shutil.rmtree(part, ignore_errors=True)
        origin = Origin(release_name, commit, tracking.run_id, {"plan": plan.plain()})
        if plan.model in HEADS:
            from trainer.members.body import body_of
            from trainer.members.head import make_head

            made = make_head(prepared, body_of(plan.model), part, origin, say, tenths(say), champion, plan.recipe)
        else:
            made = _network(settings, prepared, plan, part, origin, say, tracking, champion)
        if teacher is not None:
            made = _bound(made, teacher)
        if teacher is not None and plan.taught_by:
            from trainer.training.taught import against

            more = {"teacher": teacher.release.name, "against_teacher": against(prepared, made, teacher)}
            made = write_release(part, made.release.model_copy(update={"metrics": {**made.release.metrics, **more}}))
        shutil.rmtree(folder, ignore_errors=True)  # what --again makes anew
        part.rename(folder)  # whole, bound by its licences and measured, or not at all
        made = load_release(folder)
        register(tracking, made, prepared, say)
    return made


def _bound(made: LoadedRelease, teacher: LoadedRelease) -> LoadedRelease:
    """The release, bound by the licences of the one that it learnt from."""
    said = f"; learnt from answers of {teacher.release.name} ({', '.join(teacher.release.licences)})"
    forbids = any(member.noncommercial for member in teacher.release.members)

    def bound(one: Member) -> Member:
        return one.model_copy(update={"licence": one.licence + said, "noncommercial": one.noncommercial or forbids})

    members = tuple(bound(one) for one in made.release.members)
    return write_release(made.folder, made.release.model_copy(update={"members": members}))


def register(tracking: Run, made: LoadedRelease, prepared: store.Prepared, say: Callable[[str], None]) -> None:
    """Log a release's metrics and register it under the name of its data."""
    tracking.metrics(numbers(made.release.metrics))
    name = prepared.folder.name.rpartition("-")[0]
    if version := tracking.register(made, name):
        say(f"Registered in MLflow as {name} version {version}.")


def _network(
    settings: Settings,
    prepared: store.Prepared,
    plan: Plan,
    folder: Path,
    origin: Origin,
    say: Callable[[str], None],
    tracking: Run,
    champion: LoadedRelease | None,
) -> LoadedRelease:
    """Train a network as a Ray job, and package it."""
    from trainer.members.adapt import BEGUN
    from trainer.releases.package import WEIGHTS, package
    from trainer.training.ray_run import STATE, fit

    def on_epoch(found: dict[str, Any]) -> None:
        left = max(0.0, plan.minutes * 60 - found["elapsed_s"])
        line = f"epoch {found['epoch']:2d}/{EPOCHS}: loss {found['loss']:.4f}, {found['windows_per_s']:.0f} windows/s, {left:.0f} s left"
        if "validation_auc" in found:
            line += f"; validation AUC {found['validation_auc']:.3f}, mAP {found['validation_map']:.3f}"
        say(line)
        tracking.metrics({key: value for key, value in found.items() if key != "epoch"}, step=int(found["epoch"]))

    clips = len(prepared.of(store.TRAIN))
    say(f"Training {plan.model} for {plan.minutes:g} min on {clips} clips of {len(prepared.labels)} species ...")
    weights = champion.folder / WEIGHTS if champion else None
    if weights:
        begin_with(build(plan.model, len(prepared.labels)), weights, prepared.labels)  # what does not fit is said here, not by a worker
    checkpoint = fit(prepared.folder, run_name(prepared, plan), plan, settings, say, on_epoch, weights)
    net, training = _trained(checkpoint / STATE, prepared, plan)
    from_imagenet = plan.imagenet or (champion and BEGUN in " ".join(champion.release.licences))
    begun = f"{BEGUN}, " if from_imagenet else ""
    if plan.model == TAGGER:
        from trainer.members import tagger

        begun = f"begun with an AudioSet tagger's, {tagger.LICENCE}, "
    licence = LICENCE.format(source=prepared.source.name, begun=begun)
    return package(prepared, net, plan.model, folder, origin._replace(training=training), licence, say)


def run_name(prepared: store.Prepared, plan: Plan) -> str:
    """Data, model and a digest of all that decides the outcome: the same for the same."""
    digest = hashlib.sha256(f"{prepared.digest}{json.dumps(plan.plain(), sort_keys=True)}".encode()).hexdigest()
    return f"{prepared.folder.name.rpartition('-')[0]}-{plan.model}-{digest[:8]}"


def made_before(folder: Path, prepared: store.Prepared, plan: dict[str, Any], name: str) -> LoadedRelease | None:
    """The release in the folder if the same data and plan have made it. Raises Invalid if another release has its name."""
    if not (folder / "release.json").is_file():
        return None
    try:
        found = load_release(folder)
    except Invalid:
        return None  # cut off while it was written, or changed: made again
    same = found.release.data_digest == prepared.digest and found.release.metrics.get("training", {}).get("plan") == plan
    if not same:
        from soundscape.errors import Reason

        raise Invalid(Reason.BAD_REQUEST, f"There is another release named {name}; choose another --name or remove {folder}.")
    return found


def _trained(state: Path, prepared: store.Prepared, plan: Plan) -> tuple[Any, dict[str, Any]]:
    import torch

    from trainer.training.learn import Learner

    learner = Learner(prepared.folder, plan)
    if not learner.restore(torch.load(state, map_location="cpu", weights_only=True)):
        raise Broken(f"{state} belongs to other data, another plan or another network; nothing untrained is released.")
    training = {"plan": plan.plain(), "epochs": learner.epoch, "steps": learner.steps, "seconds": round(learner.elapsed, 1)}
    return learner.finished(), training


def _flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    out: dict[str, Any] = {}
    for key, value in values.items():
        out.update(_flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value})
    return out


def numbers(metrics: dict[str, Any]) -> dict[str, float]:
    """The metrics of a release that are numbers, by dotted names."""
    return {
        key: float(value)
        for key, value in _flat(metrics).items()
        if isinstance(value, (int, float)) and not key.startswith("training.plan")
    }
