"""A release made of another one: the same networks in the forms that were chosen, with the reason written into it."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from soundscape.errors import Invalid, Reason
from soundscape.release import RELEASE_FILE, LoadedRelease, Member, file_digest, load_release, write_release
from trainer.data import store
from trainer.evaluation.hear import heard_by
from trainer.releases.package import judged, judges_of
from trainer.releases.variant_choice import RULE
from trainer.training.tracking import git_commit

if TYPE_CHECKING:
    from trainer.releases.optimize import Optimized

RECORD = "optimized"
"""Where the reason stands among a release's metrics."""


def write_optimized(
    releases: Path, loaded: LoadedRelease, prepared: store.Prepared, done: Sequence[Optimized], say: Callable[[str], None]
) -> LoadedRelease:
    """Write RELEASE-VARIANT beside the release, whole or not at all; what serves the chosen forms already is given back as it is.

    A release is never changed: its digest is what was deployed. Thresholds, calibration and weights stay, for no chosen form is further
    from PyTorch than its bound. Raises Invalid if no form holds, or another release has the name.
    """
    if lost := [one for one in done if one.chosen is None]:
        raise Invalid(Reason.BAD_REQUEST, f"No form of {lost[0].member.name} may be served ({lost[0].choice.reason}); nothing is written.")
    changed = {one.member.name: _as_chosen(one) for one in done}
    if all(changed[one.member.name] == one.member for one in done):
        say(f"{loaded.release.name} serves what is chosen already; no other release is needed.")
        return loaded
    name = "-".join([loaded.release.name, *dict.fromkeys(str(one.choice.name) for one in done)])
    folder, part = releases / name, releases / f".{name}.part"
    if (folder / RELEASE_FILE).is_file():
        return _made_before(folder, loaded, say)
    shutil.rmtree(part, ignore_errors=True)
    shutil.copytree(loaded.folder, part)
    for one in done:
        if one.chosen and not (kept := part / changed[one.member.name].file).exists():
            shutil.copy2(one.chosen.path, kept)
    members = tuple(changed.get(member.name, member) for member in loaded.release.members)
    release = loaded.release.model_copy(
        update={
            "name": name,
            "members": members,
            "metrics": {**loaded.release.metrics, RECORD: _record(loaded, done)},
            "git_commit": git_commit(),
            "created_at": datetime.now(UTC).isoformat(timespec="seconds"),
        }
    )
    made = write_release(part, release)
    if len(members) == 1 and prepared.digest == loaded.release.data_digest:  # what is measured is what is served
        own = made.thresholds[[made.label_names.index(label) for label in prepared.labels]]
        found = judged(prepared, judges_of(prepared, say), lambda items: heard_by(made, prepared, items), own)
        write_release(part, release.model_copy(update={"metrics": {**release.metrics, **found}}))
    part.rename(folder)
    return load_release(folder)


def _as_chosen(one: Optimized) -> Member:
    assert one.chosen is not None
    variant = one.chosen.variant
    how = {"runtime": variant.runtime, "precision": variant.precision, "graph_level": variant.graph_level}
    return one.member.model_copy(update={**how, "file": f"{one.member.name}-{variant.form}", "digest": file_digest(one.chosen.path)})


def _record(loaded: LoadedRelease, done: Sequence[Optimized]) -> dict[str, Any]:
    """Why these forms are served; the numbers of the release that it was made of stand beside it."""
    return {
        "from": loaded.release.name,
        "from_digest": loaded.digest,
        "rule": RULE,
        "members": {
            one.member.name: {
                "variant": one.choice.name, "reason": one.choice.reason,
                "mean_ap": one.chosen.mean_ap, "largest_difference": one.chosen.largest, "bound": one.chosen.variant.bound,
                "struck_out": [each.variant.name for each in one.found if each.struck_out], "left_out": one.left_out,
            }
            for one in done if one.chosen
        },
    }  # fmt: skip


def _made_before(folder: Path, loaded: LoadedRelease, say: Callable[[str], None]) -> LoadedRelease:
    found = load_release(folder)
    if found.release.metrics.get(RECORD, {}).get("from_digest") != loaded.digest:
        raise Invalid(Reason.BAD_REQUEST, f"There is another release named {folder.name}; remove {folder} first.")
    say(f"{folder.name} was made of this release before; a release is never changed.")
    return found
