"""`soundscape rehearse`: a retraining tried out on what is known already: the older recordings first, the newer ones as new labels."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from soundscape.settings import Settings, get_settings
from soundscape.terminal import terminal_width

if TYPE_CHECKING:
    from soundscape.release import LoadedRelease
    from trainer.retraining.folders import Folders
    from trainer.retraining.verdict import Verdict

FOLDER = click.Path(path_type=Path, file_okay=False, exists=True)
CHAMPION, RETRAINED = "champion", "retrained"
LATER, BASE = "later", "base"
TITLES = {LATER: "the later recordings", BASE: "the base's validation clips"}


@click.command()
@click.option("--data", required=True, type=FOLDER, help="A folder in the layout of BirdCLEF 2025, best with dates (README).")
@click.option("--minutes", default=10.0, show_default=True, type=click.FloatRange(min=0.01), help="Time for the first training.")
@click.option("--again-minutes", "again", default=5.0, show_default=True, type=click.FloatRange(min=0.01), help="And for the second.")
@click.option("--windows", default=300, show_default=True, type=click.IntRange(1), help="New labelled windows, at most.")
@click.option("--model", default="small", show_default=True, help="small or efficientnet_b0.")
@click.option("--json", "as_json", is_flag=True, help="End with a JSON object.")
def rehearse(data: Path, minutes: float, again: float, windows: int, model: str, as_json: bool) -> None:
    """Train on the older 70 % of a folder, then on with half of the newer ones, and judge both on the other half."""
    from trainer.members.models import build

    build(model, 2)  # a wrong name is said before the work
    said: Callable[[str], None] = (lambda text: click.echo(text, err=True)) if as_json else click.echo
    found = run(get_settings(), data, minutes, again, windows, model, said)
    if as_json:
        click.echo(json.dumps(found))
    else:
        _show(found)


def run(
    settings: Settings, data: Path, minutes: float, again: float, windows: int, model: str, say: Callable[[str], None]
) -> dict[str, Any]:
    """The whole rehearsal as one plain object, also kept beside its folders; interrupted, the same call goes on where it stopped.

    Both releases stay among the others; nothing deploys them. No stack is needed: MLflow tracks the training where it is up, and a file of
    its own where it is not. Raises Invalid as `folders_of`, and Invalid, Unavailable, Broken as training does.
    """
    from trainer.data.prepare import prepare
    from trainer.retraining.folders import folders_of
    from trainer.retraining.retrain import train_on
    from trainer.retraining.verdict import gained, lost
    from trainer.training.plan import Plan
    from trainer.training.train import train

    folders = folders_of(data, settings.root / "rehearsals", windows)
    say(_split(folders, windows))
    prepared, report = prepare(folders.older, settings.root / "datasets", say)
    champion = train(settings, prepared, report, Plan(model=model, minutes=minutes), None, False, say)
    release, _ = train_on(settings, champion, folders.older, [folders.new], again, None, say)
    say("Both hear the later recordings, and the base's validation clips ...")
    later, base = (judge(settings, champion, release, folder) for folder in (folders.later, folders.older))
    found = {
        "champion": champion.release.name,
        "release": release.release.name,
        "folder": str(folders.home),
        "split": {**folders.split.recordings, "undated": folders.split.undated},
        "new": {"windows": folders.windows, "recordings": folders.chosen, "asked": windows},
        **{name: None if one is None else asdict(one) for name, one in ((LATER, later), (BASE, base))},
        "above_0": later is not None and later.above_0,
        "says": [gained(later), lost(base)],
    }
    (folders.home / f"{release.release.name}.json").write_text(json.dumps(found, indent=1), encoding="utf-8")
    return found


def judge(settings: Settings, champion: LoadedRelease, release: LoadedRelease, data: Path) -> Verdict | None:
    """Both releases, by their served files, on the clips of a folder that are kept out of training; nothing that one was trained on."""
    from dataclasses import replace

    from trainer.evaluation.hear import Ears
    from trainer.evaluation.material import read_material
    from trainer.evaluation.rows import hear_set
    from trainer.evaluation.trained import trained_on
    from trainer.retraining.verdict import judged

    material = read_material(data).without([trained_on(one, settings.root / "datasets") for one in (champion, release)])
    if not (clips := material.of("focal")):
        return None
    heard = hear_set(replace(material, sounds=clips), {CHAMPION: Ears(champion), RETRAINED: Ears(release)})
    if (rows := heard.rows.get("focal")) is None:
        return None
    return judged(rows.truth, rows.answers[CHAMPION].scores, rows.answers[RETRAINED].scores, rows.recordings)


def _split(folders: Folders, windows: int) -> str:
    """How the folder was split, what was short, and what is a stand-in."""
    counts = folders.split.recordings
    told = f"{counts['older']} older recordings, {counts['new']} new ones to learn from, {counts['later']} later ones to judge by."
    told += f" New labelled windows: {folders.windows} of {folders.chosen} recordings"
    if folders.chosen < counts["new"]:
        told += f" (at most {windows} were asked for)."
    else:
        told += f", all that the new half holds (up to {windows} were asked for)."
    if folders.split.undated:
        told += (
            f" {folders.split.undated} of {sum(counts.values())} recordings have no date; the hash of their id stands in for it,"
            " so among these older and newer is a draw, no time."
        )
    return told


def _show(found: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    titles = ("judged on", "champion", "retrained", "difference (95 %)", "windows", "recordings", "classes")
    table = Table(*titles, title="Macro mAP before and after the new labels")
    for name, title in TITLES.items():
        one = found[name]
        if one is None:
            table.add_row(title, *["-"] * 6)
            continue
        between = f"{one['difference']:+.3f} ({one['low']:+.3f} to {one['high']:+.3f})"
        counts = [str(one[key]) for key in ("windows", "recordings", "classes")]
        table.add_row(title, f"{one['champion']:.3f}", f"{one['retrained']:.3f}", between, *counts)
    Console(width=terminal_width()).print(table)
    for line in found["says"]:
        click.echo(line)
    click.echo(found["release"])
