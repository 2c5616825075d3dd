"""Several releases fused into one: weights, calibration and thresholds from clips that none of them was trained on."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from itertools import combinations
from pathlib import Path

import numpy as np
import numpy.typing as npt

from soundscape.calibration import Thresholds
from soundscape.errors import Invalid, Reason
from soundscape.features import FeatureSpec
from soundscape.release import LoadedRelease, Member, Release, write_release
from soundscape.taxonomy import Species
from trainer.data import store
from trainer.evaluation import evaluate
from trainer.evaluation.hear import Ears, Features, features_of, sound_of, specs_of
from trainer.evaluation.material import sets_of
from trainer.progress import Progress
from trainer.releases import thresholds
from trainer.releases.calibrate import calibrate, calibration_metrics
from trainer.releases.fusing import Answered, answer, changed, exported
from trainer.releases.package import WEIGHTS, Origin, judged, judges_of
from trainer.releases.variants import float32_of, weights_of
from trainer.training.mixing import Recipe
from trainer.training.sound_mixing import SoundMixer

Bool = npt.NDArray[np.bool_]
Float32 = npt.NDArray[np.float32]

COMPOSED = 600
"""Windows composed of clips that judge."""
STEPS = 10
"""Weights are tried in tenths: of four members, 286 mixtures."""
NEAR = 0.01
"""Mean average precision that a mixture may lack."""
CONTEXT = 0.3
"""Share of a window's confidence that its neighbours have: on minutes composed of clips that judge, mAP rises until 0.3 and stays (docs/
decisions/0009-ensemble.md). What is fitted on single windows is fitted without it."""


def ensemble(
    prepared: store.Prepared,
    parts: Sequence[LoadedRelease],
    folder: Path,
    origin: Origin,
    say: Callable[[str], None],
    progress: Progress,
    budget_mb: float | None = None,
) -> LoadedRelease:
    """Fuse releases of the same data and write the release into `folder`.

    Of members that together are larger than `budget_mb` (10^6 bytes), those stay that hear best within it; who has no share in the fusion
    and tells no sound event is left out. Raises Invalid: fewer than two members, two of one name, one that was trained on other data, or
    no member within the budget.
    """
    if len(parts) < 2:
        raise Invalid(Reason.BAD_REQUEST, "An ensemble needs two members; name several releases.")
    united = unite(prepared, parts, folder, origin)
    judged_on = judges_of(prepared, say)
    ears = Ears(united, threads=1)
    specs = specs_of(united)
    heard: dict[str, dict[str, Float32]] = {}

    def hear(items: Sequence[store.Item]) -> None:
        todo = [item for item in items if item.name not in heard]
        for n, item in enumerate(todo, 1):
            heard[item.name] = ears.members(features_of(sound_of(prepared.source / item.name), specs).by_spec)
            progress("sounds", n, len(todo))

    items = prepared.of(judged_on)
    hear(items)
    truth, recordings = prepared.truth(items)
    clips = Answered(_joined([heard[item.name] for item in items]), truth, recordings)
    composed = _composed(prepared, judged_on, ears, specs, progress)

    fitted = with_weights(united, clips, composed, prepared, say, budget_mb)
    fitted = _without_idle(fitted, prepared, parts, origin, say, budget_mb)
    clips, composed = (some._replace(by_member=_of(fitted, some.by_member)) for some in (clips, composed))
    fitted, calibrated = calibrate(fitted, composed, prepared)
    say(calibrated)
    common, own = thresholds.choose(composed.truth, answer(fitted, composed.by_member, prepared))
    without = {}
    for member in fitted.release.members if len(fitted.release.members) > 1 else ():
        rest = {name: said for name, said in composed.by_member.items() if name != member.name}
        at, each = thresholds.choose(composed.truth, answer(fitted, rest, prepared))
        without[member.name] = Thresholds(threshold=at, thresholds=_own(prepared, at, each))
    hear(prepared.of(store.JUDGE))
    fitted = changed(fitted, context=CONTEXT)

    def answer_to(item: store.Item) -> Float32:
        return answer(fitted, _of(fitted, heard[item.name]), prepared)

    metrics = judged(prepared, judged_on, lambda some: np.concatenate([answer_to(one) for one in some]), own)
    metrics |= {"training": origin.training, "size_mb": round(sum(sizes_mb(fitted).values()), 2)}
    metrics |= {"calibration": calibration_metrics(fitted, clips, composed, prepared)}
    metrics |= exported(parts, fitted)
    return write_release(
        folder,
        fitted.release.model_copy(
            update={
                "threshold": common,
                "thresholds": {**_kept(parts, fitted, prepared), **_own(prepared, common, own)},
                "thresholds_without": without,
                "metrics": metrics,
            }
        ),
    )


def unite(prepared: store.Prepared, parts: Sequence[LoadedRelease], folder: Path, origin: Origin) -> LoadedRelease:
    """The members of all releases in one folder, weighing the same. Raises Invalid as `ensemble`."""
    members = [member for part in parts for member in part.release.members]
    names = [member.name for member in members]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise Invalid(Reason.BAD_REQUEST, f"Two of the members are called {twice[0]}; name releases of different models.")
    for part in parts:
        if part.release.data_digest != prepared.digest:
            what = f"{part.release.name} was trained on other data than {prepared.source.name}: clips that judge here may have taught it"
            raise Invalid(Reason.BAD_REQUEST, f"{what}; train it on this data first.")
    folder.mkdir(parents=True, exist_ok=True)
    species: dict[str, Species] = {}
    features: dict[str, FeatureSpec] = {}
    events: dict[str, tuple[str, ...]] = {}
    for part in parts:
        species |= {one.label: one for one in part.release.labels}
        features |= part.release.features
        events |= {event: tuple(sorted({*events.get(event, ()), *labels})) for event, labels in part.release.sound_events.items()}
        for member in part.release.members:
            shutil.copy2(part.folder / member.file, folder / member.file)
            if (weights := weights_of(part, member)) is not None:
                shutil.copy2(weights, folder / f"{member.name}-{WEIGHTS}")  # for `soundscape optimize`
            if (float32 := float32_of(part, member)) is not None:
                shutil.copy2(float32, folder / float32.name)  # for `soundscape gate`
    return write_release(
        folder,
        Release(
            name=origin.name,
            labels=tuple(species[label] for label in sorted(species)),
            features=features,
            members=tuple(member.model_copy(update={"weight": 1 / len(members), "weight_by_taxon": {}}) for member in members),
            fusion="log_odds",
            sound_events=events,
            evaluation_sets=sets_of(prepared.source),
            data_digest=prepared.digest,
            git_commit=origin.git_commit,
            mlflow_run=origin.mlflow_run,
            created_at=datetime.now(UTC).isoformat(timespec="seconds"),
        ),
    )


def mixtures(members: int, steps: int = STEPS) -> Iterator[tuple[float, ...]]:
    """Every way to share 1 among members in parts of 1 / steps."""
    for bars in combinations(range(steps + members - 1), members - 1):
        edges = (-1, *bars, steps + members - 1)
        yield tuple((edges[n + 1] - edges[n] - 1) / steps for n in range(members))


def sizes_mb(loaded: LoadedRelease) -> dict[str, float]:
    """The size of each member's model file, in 10^6 bytes."""
    return {member.name: (loaded.folder / member.file).stat().st_size / 1e6 for member in loaded.release.members}


def with_weights(
    united: LoadedRelease,
    clips: Answered,
    composed: Answered,
    prepared: store.Prepared,
    say: Callable[[str], None],
    budget_mb: float | None = None,
) -> LoadedRelease:
    """The weights that hear best: the mean of mAP on clips and on composed windows; by taxon only where that is surely better.

    Of those within NEAR of the best, the most even: what is gained by less says nothing, and several members err apart.
    Raises Invalid if no member fits the budget.
    """
    columns = {taxon: [n for n, one in enumerate(prepared.species) if one.taxon == taxon] for taxon in _taxa(prepared)}
    sizes = list(sizes_mb(united).values())
    room = float("inf") if budget_mb is None else budget_mb
    tried = [shares for shares in mixtures(len(sizes)) if sum(size for size, share in zip(sizes, shares, strict=True) if share) <= room]
    if not tried:
        what = f"No member fits into {room:g} MB; the smallest has {min(sizes):.1f} MB"
        raise Invalid(Reason.BAD_REQUEST, f"{what}; raise --budget-mb.")
    said = [[answer(_weighted(united, shares), some.by_member, prepared) for some in (clips, composed)] for shares in tried]

    def best(chosen: Sequence[int], among: Sequence[int]) -> int:
        found = np.array([
            np.nanmean([_mean_ap(some.truth[:, chosen], one[:, chosen]) for some, one in zip((clips, composed), both, strict=True)])
            for both in (said[n] for n in among)
        ])  # fmt: skip
        near = np.flatnonzero(found >= np.nanmax(found) - NEAR) if not np.isnan(found).all() else np.arange(len(among))
        return min((among[int(n)] for n in near), key=lambda n: max(tried[n]))

    whole = best(range(len(prepared.labels)), range(len(tried)))
    same = [n for n, shares in enumerate(tried) if not any(share and not used for share, used in zip(shares, tried[whole], strict=True))]
    by_taxon: dict[str, tuple[float, ...]] = {}
    for taxon, own in columns.items():
        other = best(own, same)
        sure = evaluate.difference(clips.truth[:, own], said[other][0][:, own], said[whole][0][:, own], clips.groups, evaluate.INTERVAL)
        if other != whole and sure is not None and sure.low > 0:
            by_taxon[taxon] = tried[other]
    names = [member.name for member in united.release.members]
    for what, shares in {"all taxa": tried[whole], **by_taxon}.items():
        say(f"Weights for {what}: {', '.join(f'{name} {share:g}' for name, share in zip(names, shares, strict=True))}.")
    return _weighted(united, tried[whole], by_taxon)


def _without_idle(
    fitted: LoadedRelease,
    prepared: store.Prepared,
    parts: Sequence[LoadedRelease],
    origin: Origin,
    say: Callable[[str], None],
    budget_mb: float | None,
) -> LoadedRelease:
    """The release without the parts whose members have no share: they would cost inference and change nothing."""
    sizes, weights = sizes_mb(fitted), {member.name: member for member in fitted.release.members}
    left = (budget_mb or float("inf")) - sum(size for name, size in sizes.items() if weights[name].weight)
    stay = []
    for part in parts:
        size = sum(sizes[member.name] for member in part.release.members)
        used = any(weights[member.name].weight for member in part.release.members)
        if not used and part.release.told_events and size <= left:
            used, left = True, left - size
        if used:
            stay.append(part)
        else:
            say(f"{part.release.name} ({size:.1f} MB) is left out: it has no share in what is said.")
    if len(stay) == len(parts):
        return fitted
    shutil.rmtree(fitted.folder)
    again = unite(prepared, stay, fitted.folder, origin)
    return changed(again, members=tuple(weights[member.name] for member in again.release.members))


def _kept(parts: Sequence[LoadedRelease], fitted: LoadedRelease, prepared: store.Prepared) -> dict[str, float]:
    """The thresholds of what parts name beyond the data; of a part that was left out nothing is named."""
    beyond = set(fitted.label_names) - set(prepared.labels)
    return {label: at for part in parts for label, at in part.release.thresholds.items() if label in beyond}


def _of(loaded: LoadedRelease, by_member: Mapping[str, Float32]) -> dict[str, Float32]:
    return {member.name: by_member[member.name] for member in loaded.release.members}


def _composed(prepared: store.Prepared, role: str, ears: Ears, specs: tuple[FeatureSpec, ...], progress: Progress) -> Answered:
    mixer = SoundMixer(prepared, role, np.random.default_rng([1, *role.encode()]), Recipe())
    parts, truth = [], []
    for n in range(1, COMPOSED + 1):
        wave, there, _ = mixer.window()
        found: Features = features_of(wave, specs)
        parts.append(ears.members(found.by_spec))
        truth.append(there > 0)
        progress("composed windows", n, COMPOSED)
    return Answered(_joined(parts), np.stack(truth), np.arange(COMPOSED).astype(str))


def _joined(parts: Sequence[Mapping[str, Float32]]) -> dict[str, Float32]:
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _weighted(united: LoadedRelease, shares: tuple[float, ...], by_taxon: Mapping[str, tuple[float, ...]] | None = None) -> LoadedRelease:
    def member(n: int, one: Member) -> Member:
        taxa = {taxon: own[n] for taxon, own in (by_taxon or {}).items()}
        return one.model_copy(update={"weight": shares[n], "weight_by_taxon": taxa})

    members = tuple(member(n, one) for n, one in enumerate(united.release.members))
    return changed(united, members=members)


def _taxa(prepared: store.Prepared) -> list[str]:
    return sorted({one.taxon for one in prepared.species})


def _mean_ap(truth: Bool, scores: Float32) -> float:
    found = evaluate.ap_by_class(truth, scores)
    return float(np.nanmean(found)) if not np.isnan(found).all() else float("nan")


def _own(prepared: store.Prepared, common: float, own: npt.NDArray[np.float64]) -> dict[str, float]:
    return {label: float(at) for label, at in zip(prepared.labels, own, strict=True) if at != common}
