"""`soundscape retrain`: from the champion's weights, on the base data and what people said since; what was forgotten is measured."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from soundscape.errors import Invalid, Reason
from soundscape.options import NAME, RELEASE_NAME
from soundscape.retraining import done
from soundscape.retraining import queued as waiting
from soundscape.settings import Settings, get_settings

if TYPE_CHECKING:
    from soundscape.release import LoadedRelease
    from trainer.data.store import Prepared

FOLDER = click.Path(path_type=Path, file_okay=False, exists=True)
SLOWER = 0.3
"""Of the first training's learning rate: what is known is to be kept."""


@click.command()
@click.option("--data", type=FOLDER, help="The base data: what the champion was trained on.")
@click.option("--queued", is_flag=True, help="Every site for which a retraining waits, with all that was said on its log. For a timer.")
@click.option("--new", "new", multiple=True, type=FOLDER, help="A dataset made by `soundscape replay --out`; may be given several times.")
@click.option("--site", type=NAME, help="Site whose champion it begins with; the setting's site unless given.")
@click.option("--minutes", default=10.0, show_default=True, type=click.FloatRange(min=0.01), help="Time for the training itself.")
@click.option("--name", type=RELEASE_NAME, help="Name of the release.")
@click.option("--json", "as_json", is_flag=True, help="End with a JSON object.")
def retrain(
    data: Path | None, queued: bool, new: tuple[Path, ...], site: str | None, minutes: float, name: str | None, as_json: bool
) -> None:
    """Train the champion on with new labels; the release's name is the last line."""
    settings = get_settings()
    said: Callable[[str], None] = (lambda text: click.echo(text, err=True)) if as_json else click.echo
    if queued and (data or new or site or name):
        raise click.UsageError("--queued retrains every site that waits, on its own data; give it alone, or with --minutes.")
    if queued:
        for made in run_queued(settings, minutes, said):
            click.echo(made)
        return
    if data is None:
        raise click.UsageError("Give --data FOLDER (the base data), or --queued.")
    release, found = run(settings, data, list(new), site or settings.site, minutes, name, said)
    if as_json:
        click.echo(json.dumps({"release": release.release.name, **found}))
        return
    for what, one in found.items():
        if one is not None:
            bounds = f"99 % above {one['low']:+.3f} and below {one['high']:+.3f}, {one['groups']} recordings"
            click.echo(f"{what}: macro mAP {one['mean']:+.3f} against the champion ({bounds})")
    click.echo(release.release.name)


def run(
    settings: Settings, data: Path, new: list[Path], site: str, minutes: float, name: str | None, say: Callable[[str], None]
) -> tuple[LoadedRelease, dict[str, Any]]:
    """The new release, and how it stands to the champion on the base's and on the new validation clips.

    Raises Invalid: no champion, no weights of it, or nothing new. Raises Unavailable, Broken as training does.
    """
    champion = champion_of(settings, site)
    release, prepared = train_on(settings, champion, data, new, minutes, name, say)
    found = compare(prepared, champion, release, new)
    log = settings.root / "retrainings" / f"{release.release.name}.json"
    log.parent.mkdir(parents=True, exist_ok=True)
    done(settings, site)  # what the gate or somebody else queued
    log.write_text(json.dumps({"site": site, "champion": champion.release.name, "release": release.release.name, **found}, indent=1))
    return release, found


def run_queued(settings: Settings, minutes: float, say: Callable[[str], None]) -> list[str]:
    """Retrain each site for which that was asked, on its champion's own data and everything that was said on the log; the releases.

    A site that cannot be retrained now (nothing new, its data is gone) is said, and stays on the list.
    """
    from trainer.evaluation.trained import find_prepared
    from trainer.replay.dataset import make_dataset
    from trainer.replay.run import CLIP_TOPICS, Progress, Request

    made = []
    for site, why in waiting(settings).items():
        say(f"Site {site}: asked for by {why}.")
        try:
            champion = champion_of(settings, site)
            prepared = find_prepared(settings.root / "datasets", champion.release.data_digest)
            if prepared is None or not prepared.source.is_dir():
                raise Invalid(Reason.BAD_REQUEST, f"What {champion.release.name} was trained on is not here.")
            folder = settings.root / "datasets" / "replays" / f"{site}-{datetime.now(UTC):%Y%m%dT%H%M%S}"
            make_dataset(settings, Request(None, None, tuple(sorted(CLIP_TOPICS)), site, None, None), folder, Progress())
            release, _ = run(settings, prepared.source, [folder], site, minutes, None, say)
        except Invalid as error:
            say(f"Site {site} is not retrained: {error.detail}")
            continue
        say(f"Next: soundscape gate {release.release.name} --site {site}")
        made.append(release.release.name)
    return made


def train_on(
    settings: Settings, champion: LoadedRelease, data: Path, new: list[Path], minutes: float, name: str | None, say: Callable[[str], None]
) -> tuple[LoadedRelease, Prepared]:
    """Train a champion on, on its base data and the new: the release, and the data that it was trained on.

    Raises Invalid: no weights of the champion, or nothing new. Raises Unavailable, Broken as training does.
    """
    from trainer.data.merge import merge
    from trainer.data.prepare import prepare
    from trainer.members.head import STARTS_FROM
    from trainer.members.models import RATES
    from trainer.releases.package import WEIGHTS
    from trainer.training.plan import Plan
    from trainer.training.train import train

    model = champion.release.members[0].name
    from_head = model in STARTS_FROM
    if not from_head and not (champion.folder / WEIGHTS).is_file():
        raise Invalid(
            Reason.BAD_REQUEST,
            f"{champion.release.name} keeps no weights to begin with (it was not trained here); train one first with `soundscape train`.",
        )
    if not any(_rows(folder) for folder in new):
        raise Invalid(Reason.BAD_REQUEST, "There is nothing new to learn from; make a dataset with `soundscape replay --out DIR`.")
    merged = merge([data, *new], settings.root / "datasets" / "sources")
    prepared, report = prepare(merged, settings.root / "datasets", say)
    plan = Plan(model=model, minutes=minutes, rate=RATES.get(model, Plan.rate) * SLOWER, begins_with=champion.digest)
    if from_head:  # what BirdNET knows stays; its last layer is learnt anew, on all of the data
        plan = Plan(model=STARTS_FROM[model], minutes=minutes, begins_with=champion.digest)
    say(f"Training {champion.release.name} on, with {sum(map(_rows, new))} new clips beside the base's.")
    return train(settings, prepared, report, plan, name, False, say, champion), prepared


def champion_of(settings: Settings, site: str) -> LoadedRelease:
    """The release that answers the site. Raises Invalid where there is none, Unavailable without a broker."""
    from soundscape.deployments import read_states
    from soundscape.release import named_release

    state = read_states(settings).get(site)
    if state is None:
        raise Invalid(Reason.BAD_REQUEST, f"Site {site} has no champion to train on; deploy one with `soundscape deploy`.")
    return named_release(settings.releases, state.champion.name, state.champion.digest)


def compare(prepared: Prepared, champion: LoadedRelease, release: LoadedRelease, new: list[Path]) -> dict[str, Any]:
    """Difference in macro mAP, new less champion, on validation clips of the base ("forgetting") and of the new data ("learning").

    Over the labels that both know, paired, whole recordings drawn again; None where nothing can be scored.
    """
    from trainer.data import store
    from trainer.evaluation import evaluate
    from trainer.evaluation.hear import heard_by

    fresh = {str(path.relative_to(folder)) for folder in new for path in (folder / "train_audio").rglob("*.ogg")}
    shared = [label for label in prepared.labels if label in champion.label_names]
    columns = [prepared.labels.index(label) for label in shared]

    def scores(one: LoadedRelease, items: list[store.Item]) -> Any:
        member = one.release.members[0]
        where = [member.labels.index(label) for label in shared]
        return heard_by(one, prepared, items)[:, where]

    found: dict[str, Any] = {}
    for what, items in (
        ("forgetting", [item for item in prepared.of(store.VALIDATION) if item.name not in fresh]),
        ("learning", [item for item in prepared.of(store.VALIDATION) if item.name in fresh]),
    ):
        if not items:
            found[what] = None
            continue
        truth, recordings = prepared.truth(items)
        one = evaluate.difference(truth[:, columns], scores(release, items), scores(champion, items), recordings)
        found[what] = None if one is None else asdict(one)
    return found


def _rows(folder: Path) -> int:
    from trainer.data.catalog import read_catalog

    return len(read_catalog(folder).clips)
