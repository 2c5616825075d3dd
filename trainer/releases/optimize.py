"""`soundscape optimize`: the forms in which a release's networks can be served, measured, and a release of those that the rule chooses."""

from __future__ import annotations

import json
import tempfile
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from soundscape.errors import Invalid, Reason
from soundscape.settings import Settings, get_settings
from soundscape.terminal import terminal_width

if TYPE_CHECKING:
    from collections.abc import Callable

    from rich.console import Console

    from soundscape.release import LoadedRelease, Member
    from trainer.data import store
    from trainer.progress import Progress
    from trainer.releases.variant_choice import Choice, Prices
    from trainer.releases.variant_measures import Judged, Measured

FILE = click.Path(path_type=Path, dir_okay=False, exists=True)
FOLDER = click.Path(path_type=Path, file_okay=False, exists=True)


class Optimized(NamedTuple):
    """One member: every form that was measured, why the others were not, and the rule's choice."""

    member: Member
    found: list[Measured]
    left_out: dict[str, str]
    choice: Choice

    @property
    def chosen(self) -> Measured | None:
        """The form that the rule names."""
        return next((one for one in self.found if one.variant.name == self.choice.name), None)


@click.command()
@click.argument("release")
@click.option("--data", type=FOLDER, help="A folder whose validation clips judge; the release's own data unless given.")
@click.option("--prices", type=FILE, help="TOML or JSON with what machines cost; unless given, trainer/releases/prices.toml.")
@click.option("--variant", default=None, help="Measure this form beside PyTorch's alone, and choose it instead of asking the rule.")
@click.option("--apply", "write", is_flag=True, help="Write a release RELEASE-VARIANT of what is chosen; its name is the last line.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object instead of tables.")
def optimize(release: str, data: Path | None, prices: Path | None, variant: str | None, write: bool, as_json: bool) -> None:
    """Measure every form in which RELEASE's networks can be served: accuracy, distance from PyTorch, latency, speed, size and cost."""
    from rich.console import Console

    from soundscape.release import named_release
    from trainer.progress import progress_on
    from trainer.releases.optimized_release import write_optimized
    from trainer.releases.variant_choice import EXAMPLE, read_prices
    from trainer.releases.variants import VARIANTS, weights_of

    settings, aside = get_settings(), Console(stderr=True)
    loaded, money = named_release(settings.releases, release), read_prices(prices or EXAMPLE)
    if variant is not None and variant not in (names := [one.name for one in VARIANTS]):
        raise Invalid(Reason.BAD_REQUEST, f"There is no form {variant}; there are {', '.join(names)}.")
    if not any(weights_of(loaded, member) for member in loaded.release.members):
        what = f"No member of {release} is a network of ours with its PyTorch weights kept beside it"
        raise Invalid(Reason.BAD_REQUEST, f"{what}; train one with `soundscape train --model small`.")
    prepared = data_of(settings, loaded, data)

    def say(what: str) -> None:
        aside.print(what, soft_wrap=True)

    with tempfile.TemporaryDirectory() as scratch:
        with progress_on(aside) as progress:
            done = measure_all(loaded, prepared, settings.root / "datasets", Path(scratch), money, variant, say, progress)
        report = reported(loaded, prepared, money, done)
        made = write_optimized(settings.releases, loaded, prepared, done, say) if write else None
        report["made"] = made.release.name if made else None
        _track(settings, prepared, loaded, report, made, say)
    if as_json:
        click.echo(json.dumps(report))
        return
    for one in done:
        show(one, money, Console(width=terminal_width()))
    if made:
        click.echo(made.release.name)


def data_of(settings: Settings, loaded: LoadedRelease, data: Path | None) -> store.Prepared:
    """The prepared data that judges. Raises Invalid if the release's own is not here and no other was named."""
    from trainer.commands import prepared_of
    from trainer.evaluation.trained import find_prepared

    if data is not None:
        return prepared_of(data)[0]
    found = find_prepared(settings.root / "datasets", loaded.release.data_digest)
    if found is None:
        what = f"What {loaded.release.name} was trained on is not here"
        raise Invalid(Reason.BAD_REQUEST, f"{what}; name what judges it with --data.")
    return found


def measure_all(
    loaded: LoadedRelease,
    prepared: store.Prepared,
    datasets: Path,
    scratch: Path,
    prices: Prices,
    wanted: str | None,
    say: Callable[[str], None],
    progress: Progress,
) -> list[Optimized]:
    """Measure every network of ours in the release, in all forms or in the one that is wanted; other members are left as they are."""
    from trainer.releases.variant_choice import choose
    from trainer.releases.variant_measures import measure
    from trainer.releases.variants import PYTORCH, VARIANTS, Forms, network_of, weights_of

    variants = [one for one in VARIANTS if wanted in (None, one.name) or one == PYTORCH]
    done = []
    for member in loaded.release.members:
        if (weights := weights_of(loaded, member)) is None:
            say(f"{member.name} is left as it is: it is no network of ours whose PyTorch weights are here.")
            continue
        spec = loaded.release.features[member.feature_fingerprint]
        judged = judged_by(loaded, member, prepared, datasets, say)
        forms = Forms(network_of(member, weights), member, spec, loaded.folder, scratch, judged.windows)
        found, left_out = measure(forms, variants, judged, partial(_named, progress, member.name))
        done.append(Optimized(member, found, left_out, choose(found, prices, wanted)))
    return done


def _named(progress: Progress, name: str, what: str, n: int, of: int) -> None:
    progress(f"{name}: {what}", n, of)


def judged_by(
    loaded: LoadedRelease, member: Member, prepared: store.Prepared, datasets: Path, say: Callable[[str], None]
) -> Judged:
    """Windows of validation clips that the release did not learn from, as the member is fed them.

    Raises Invalid if the member hears other features than were prepared, or nothing is left to judge by.
    """
    import numpy as np

    from trainer.evaluation.trained import trained_on
    from trainer.releases.package import judges_of
    from trainer.releases.variant_measures import Judged

    if prepared.spec.fingerprint != member.feature_fingerprint:
        what = f"{member.name} hears other features than {prepared.source.name} is prepared in"
        raise Invalid(Reason.BAD_REQUEST, f"{what}; prepare it anew with `soundscape prepare`.")
    items = prepared.of(judges_of(prepared, say))
    if prepared.digest != loaded.release.data_digest:
        trained = trained_on(loaded, datasets)
        items = [item for item in items if not trained.knows(item.recording, item.recording, item.digest)]
    shared = [label for label in prepared.labels if label in member.labels]
    if not items or not shared:
        what = f"{prepared.source.name} holds no clip that could judge {member.name}"
        raise Invalid(Reason.BAD_REQUEST, f"{what}; name other data with --data.")
    truth, recordings = prepared.truth(items)
    return Judged(
        np.concatenate([prepared.windows(item) for item in items]),
        truth[:, [prepared.labels.index(label) for label in shared]],
        recordings,
        np.array([member.labels.index(label) for label in shared], np.intp),
    )


def reported(loaded: LoadedRelease, prepared: store.Prepared, prices: Prices, done: list[Optimized]) -> dict[str, Any]:
    """What `--json` prints and MLflow keeps."""
    from trainer.releases.variant_choice import RULE, summary
    from trainer.releases.variant_measures import cores

    return {
        "release": loaded.release.name,
        "digest": loaded.digest,
        "data": prepared.digest,
        "cores": cores(),
        "prices": prices.model_dump(mode="json"),
        "rule": RULE,
        "members": {
            one.member.name: {
                "variants": summary(one.found, prices), "left_out": one.left_out, "chosen": one.choice.name, "reason": one.choice.reason,
            }
            for one in done
        },
    }  # fmt: skip


def show(one: Optimized, prices: Prices, console: Console) -> None:
    """Print the tables of one member: how well each form hears, and what it costs; those struck out are struck through in both."""
    from rich.table import Table

    from trainer.releases.variant_choice import RULE, costs, refused
    from trainer.releases.variants import PYTORCH, VARIANTS

    threads = [latency.threads for latency in one.found[0].latencies]
    heard = Table(
        "form", "macro ROC-AUC", "macro mAP", "less PyTorch's (95 %)", "differs by", "at most", "",
        title=f"{one.member.name}: what each form answers",
    )  # fmt: skip
    cost = Table(
        "form", *(f"ms on {n}: median, p95" for n in threads), "windows/s (batch)", "MB", "server CPU", "GPU", "phone",
        title=f"{one.member.name}: how fast, how large, and {prices.currency} a million clips",
    )  # fmt: skip
    by_name, pytorch = {each.variant.name: each for each in one.found}, next(each for each in one.found if each.variant == PYTORCH)
    for variant in VARIANTS:
        if (each := by_name.get(variant.name)) is None:
            if variant.name not in one.left_out:
                continue  # not asked for
            heard.add_row(variant.name, *["-"] * 5, f"left out: {one.left_out[variant.name]}", style="dim")
            continue
        style = "strike" if each.struck_out else "bold" if each is one.chosen else ""
        speed, loss = each.served(), each.loss
        heard.add_row(
            variant.name, _three(each.auc), _three(each.mean_ap),
            f"{loss.mean:+.3f} ({loss.low:+.3f} to {loss.high:+.3f})" if loss else "-", f"{each.largest:.1g}", f"{variant.bound:g}",
            "chosen" if each is one.chosen else refused(each, pytorch), style=style,
        )  # fmt: skip
        cost.add_row(
            variant.name, *(f"{said['median_ms']:.2f}, {said['p95_ms']:.2f}" for said in (each.plain() for each in each.latencies)),
            f"{speed.windows_per_s:.0f} ({speed.batch})", f"{each.bytes / 1e6:.2f}",
            *("-" if price is None else f"{price:.4f}" for price in costs(each, prices)), style=style,
        )  # fmt: skip
    console.print(heard)
    console.print(cost)
    console.print(f"Rule: {RULE}")
    console.print(f"Prices of {prices.as_of:%Y-%m-%d}{f' ({prices.note})' if prices.note else ''}; a clip is one window of 5 s.")
    console.print(one.choice.reason, soft_wrap=True)


def _three(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _track(
    settings: Settings, prepared: store.Prepared, loaded: LoadedRelease, report: dict[str, Any], made: LoadedRelease | None,
    say: Callable[[str], None],
) -> None:  # fmt: skip
    """Log the report to MLflow, and register what was made there."""
    from trainer.training.tracking import git_commit, tracked
    from trainer.training.train import register

    folder = settings.root / "optimizations" / loaded.release.name
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "optimize.json").write_text(json.dumps(report, indent=1), encoding="utf-8")
    with tracked(settings, prepared.folder, f"optimize {loaded.release.name}", say) as run:
        run.params({"cores": report["cores"], "rule": report["rule"], "prices": report["prices"]})
        run.tags({"git_commit": git_commit(), "data_digest": prepared.digest, "release": loaded.release.name, "made": report["made"]})
        run.artifact(folder / "optimize.json", "optimize")
        for name, member in report["members"].items():
            run.tags({f"chosen.{name}": member["chosen"]})
            for one in member["variants"]:
                numbers = {key: one[key] for key in ("auc", "mean_ap", "largest_difference", "bytes") if one[key] is not None}
                numbers |= {f"{key}_{each['threads']}": each[key] for each in one["latencies"] for key in ("median_ms", "p95_ms")}
                numbers["windows_per_s"] = max(each["windows_per_s"] for each in one["speeds"])
                numbers |= {f"cost_{device}": cost for device, cost in one["cost_per_million"].items() if cost is not None}
                run.metrics({f"{name}.{one['variant']}.{key}": value for key, value in numbers.items()})
        if made and made.release.name != loaded.release.name:
            register(run, made, prepared, say)
