"""`soundscape ablate`: what each part of the training recipe brings, on the labelled soundscapes, paired and with its interval."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from soundscape.release import LoadedRelease
    from trainer.data import store
    from trainer.evaluation.evaluate import Difference
    from trainer.training.mixing import Recipe
    from trainer.training.plan import Plan


@dataclass(frozen=True)
class Switch:
    """A part of the recipe, and how to train without it."""

    name: str
    without: Callable[[Recipe], Recipe]
    network: bool = False
    """Only networks that are trained on log-mels have it; windows composed of sound do not."""


SWITCHES = (
    Switch("several calls at once (mixup)", lambda recipe: replace(recipe, calls=(0.1, 0.9))),
    Switch("recorded beds", lambda recipe: replace(recipe, recorded_bed=0.0)),
    Switch("faint calls (0 to 12 dB)", lambda recipe: replace(recipe, snr_db=(12.0, 24.0))),
    Switch("crops where it is loud", lambda recipe: replace(recipe, loudest_of=1)),
    Switch("secondary labels masked", lambda recipe: replace(recipe, secondary_unsaid=False)),
    Switch("rare species more often", lambda recipe: replace(recipe, rarity=1.0)),
    Switch("calls laid over beds", lambda recipe: replace(recipe, clean=1.0), network=True),
    Switch("pitch, tempo and colour", lambda recipe: replace(recipe, shift_bands=0.0, stretch=0.0, equaliser_db=0.0), network=True),
    Switch("stripes laid over (SpecAugment)", lambda recipe: replace(recipe, masks=0), network=True),
)
SMOOTHING = "label smoothing"
PSEUDO = "pseudo-labels"


@dataclass(frozen=True)
class Row:
    """What a part brings: macro mAP on labelled soundscapes with it less without it, and the interval (95 %, over recordings)."""

    part: str
    auc: float
    mean_ap: float
    difference: Difference | None


def plans(plan: Plan, pseudo: str, network: bool) -> dict[str, Plan]:
    """The plan without each part; of what it lacks by itself (pseudo-labels), the plan with it."""
    out = {one.name: replace(plan, recipe=one.without(plan.recipe)) for one in SWITCHES if network or not one.network}
    if network:
        out[SMOOTHING] = replace(plan, smoothing=0.0)
    if pseudo:
        out[PSEUDO] = replace(plan, recipe=replace(plan.recipe, pseudo=pseudo))
    return out


def rows(prepared: store.Prepared, whole: LoadedRelease, others: Mapping[str, LoadedRelease]) -> list[Row]:
    """What each part brings, from the release with all of them and those without one (for pseudo-labels: with them)."""
    from trainer.data import store
    from trainer.evaluation.evaluate import INTERVAL, difference, score
    from trainer.releases.package import rows_of

    items = prepared.of(store.JUDGE)
    _, truth, stems, kept = rows_of(prepared, items)
    scores = _answers(prepared, whole)[kept]
    out = []
    for part, release in others.items():
        other = _answers(prepared, release)[kept]
        first, second = (other, scores) if part == PSEUDO else (scores, other)
        found = score(truth, other)
        out.append(Row(part, found.auc or 0.0, found.mean_ap or 0.0, difference(truth, first, second, stems, INTERVAL)))
    return out


def _answers(prepared: store.Prepared, release: LoadedRelease) -> npt.NDArray[np.float32]:
    from trainer.data import store
    from trainer.evaluation.hear import heard_by

    columns = [release.release.members[0].labels.index(label) for label in prepared.labels]
    return heard_by(release, prepared, prepared.of(store.JUDGE))[:, columns]


@click.command()
@click.option("--data", required=True, type=click.Path(path_type=Path, file_okay=False, exists=True), help="With labelled soundscapes.")
@click.option("--model", default="tagger_head", show_default=True, help="small, efficientnet_b0, birdnet_head, tagger_head.")
@click.option("--minutes", default=3.0, show_default=True, type=click.FloatRange(min=0.01), help="For each training of a network.")
@click.option("--pseudo", default=None, help="Release that gives pseudo-labels; left out unless given.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
def ablate(data: Path, model: str, minutes: float, pseudo: str | None, as_json: bool) -> None:
    """Train with all parts of the recipe and without each of them, and say what each brings on the labelled soundscapes."""
    import json
    from dataclasses import asdict

    from soundscape.errors import Invalid, Reason
    from soundscape.release import named_release
    from soundscape.settings import get_settings
    from trainer.data import store
    from trainer.data.prepare import prepare
    from trainer.members.body import require
    from trainer.members.models import HEADS, build
    from trainer.training.plan import Plan
    from trainer.training.pseudo import hear
    from trainer.training.tracking import tracked
    from trainer.training.train import train

    settings = get_settings()
    if model in HEADS:
        require(model)
    else:
        build(model, 2)
    teacher = named_release(settings.releases, pseudo) if pseudo else None

    def say(what: str) -> None:
        click.echo(what, err=True)

    prepared, report = prepare(data, settings.root / "datasets", say)
    if not prepared.of(store.JUDGE):
        raise Invalid(Reason.BAD_REQUEST, f"{data} has no labelled soundscapes; ablation is judged by them (soundscape_labels.csv).")
    heard = hear(prepared, teacher, say, lambda _n, _of: None) if teacher else ""
    network = model not in HEADS
    plan = Plan(model=model, minutes=minutes if network else 0.0)
    todo = plans(plan, heard, network)
    with tracked(settings, prepared.folder, f"ablation {model}", say) as tracking:
        whole, others = train(settings, prepared, report, plan, None, False, say), {}
        for n, (part, other) in enumerate(todo.items(), 1):
            say(f"[{n}/{len(todo)}] {'with' if part == PSEUDO else 'without'} {part}")
            others[part] = train(settings, prepared, report, other, None, False, say)
        found = rows(prepared, whole, others)
        tracking.metrics({f"brings.{_plain(row.part)}": row.difference.mean for row in found if row.difference})
    with_all = whole.release.metrics["soundscapes"]
    said: dict[str, Any] = {"model": model, "auc": with_all["auc"], "mean_ap": with_all["mean_ap"], "parts": [asdict(row) for row in found]}
    if as_json:
        click.echo(json.dumps(said, indent=1))
    else:
        _show(said)


def _plain(part: str) -> str:
    return "".join(letter if letter.isalnum() else "_" for letter in part)


def _show(said: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    from soundscape.terminal import terminal_width

    title = f"{said['model']} with all parts: macro ROC-AUC {said['auc']:.3f}, mAP {said['mean_ap']:.3f} on the labelled soundscapes"
    table = Table("part", "AUC without", "mAP without", "brings (mAP, 95 %)", "", title=title)
    for row in said["parts"]:
        found = row["difference"]
        brings = f"{found['mean']:+.3f} ({found['low']:+.3f} to {found['high']:+.3f})" if found else "-"
        verdict = "" if not found or found["low"] <= 0 <= found["high"] else "helps" if found["low"] > 0 else "hurts"
        with_it = " (with)" if row["part"] == PSEUDO else ""
        table.add_row(row["part"], f"{row['auc']:.3f}{with_it}", f"{row['mean_ap']:.3f}{with_it}", brings, verdict)
    Console(width=terminal_width()).print(table)
