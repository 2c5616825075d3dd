"""Everything the gate asks, asked of one release: the candidate, its champion and its float32 form hear the same set once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from soundscape.errors import Invalid, Reason
from soundscape.release import RELEASE_FILE, LoadedRelease, named_release
from soundscape.settings import Settings
from trainer.evaluation import evaluate
from trainer.evaluation.hear import Ears
from trainer.evaluation.material import EvaluationSet, read_material
from trainer.evaluation.rows import Rows, columns, hear_set
from trainer.evaluation.run import described
from trainer.evaluation.slices import MIN_POSITIVES, Slice, compare, slices
from trainer.evaluation.trained import Trained, find_prepared, trained_on
from trainer.gate import checks, golden, served
from trainer.gate.checks import Check, Compared
from trainer.progress import Progress

CANDIDATE, CHAMPION, FLOAT32 = "candidate", "champion", "float32"
"""Names among the answers to the set."""
MIN_GROUPS = 5
"""Streams' days, or recordings, that a resample must be drawn from; of fewer nothing can be said with 99 %."""


@dataclass(frozen=True)
class Verdict:
    """What the gate says of a release, in the order that it was asked."""

    checks: tuple[Check, ...]
    metrics: dict[str, Any]
    set_digest: str | None = None
    loaded: LoadedRelease | None = None

    @property
    def passed(self) -> bool:
        """Whether every check holds."""
        return all(one.passed for one in self.checks)

    @property
    def reasons(self) -> list[str]:
        """Of every check that does not: its name and what it says."""
        return [f"{one.name}: {one.says}" for one in self.checks if not one.passed]

    @property
    def not_asked(self) -> list[str]:
        """Of every check that could not be asked: its name and why. A release may pass so, and its verdict says it."""
        return [f"{one.name}: {one.says}" for one in self.checks if not one.asked]

    def plain(self) -> dict[str, Any]:
        """What `soundscape gate --json` prints."""
        checks = [asdict(one) for one in self.checks]
        return {"passed": self.passed, "reasons": self.reasons, "metrics": {**self.metrics, "not_asked": self.not_asked, "checks": checks}}


def judge(
    settings: Settings,
    release: str,
    data: Path | None,
    champion: LoadedRelease | None,
    say: Callable[[str], None] = lambda _: None,
    progress: Progress = lambda _what, _n, _of: None,
    children: int | None = None,
) -> Verdict:
    """Judge a release on a folder's evaluation set, by default the one of the data that it was trained on.

    Raises Invalid for what is no fault of the release: there is no such release, or nothing to judge by.
    """
    folder = settings.releases / release
    if not (folder / RELEASE_FILE).is_file():
        raise Invalid(Reason.BAD_REQUEST, f"There is no release {release}; `soundscape release list` shows those that are there.")
    try:
        loaded = named_release(settings.releases, release)
        ears = Ears(loaded)
    except Invalid as error:
        return Verdict((Check("release", False, error.detail),), {})
    datasets = settings.root / "datasets"
    whole = read_material(data or _own_data(loaded, datasets))
    if champion is not None and champion.digest == loaded.digest:
        say(f"{release} is the champion itself: there is nothing to compare it with.")
        champion = None
    trained = trained_on(loaded, datasets)
    apart = checks.kept_apart(_learnt(whole, trained), trained.prepared is not None)
    material = whole.without([trained, *([trained_on(champion, datasets)] if champion else [])])
    if not material.sounds and apart.passed:
        what = f"All {len(whole.sounds)} sounds of the set taught {release} or its champion"
        raise Invalid(Reason.BAD_REQUEST, f"{what}: nothing is left to judge by; name other data with --data.")
    if not material.sounds:
        return Verdict((Check("release", True, "it holds"), apart), {}, whole.digest, loaded)
    files = served.float32_files(loaded)
    listeners = {CANDIDATE: ears}
    if champion is not None:
        listeners[CHAMPION] = Ears(champion)
    try:
        if files:
            listeners[FLOAT32] = Ears(loaded, instead=files)
        heard = hear_set(material, listeners, lambda n, of: progress("Hearing the set", n, of), children)
    except Invalid as error:
        if error.reason is not Reason.RELEASE_INVALID:
            raise
        return Verdict((Check("release", False, error.detail),), {}, whole.digest, loaded)
    kind, rows = next(iter(heard.rows.items()))  # soundscapes where there are any
    overall = {one: evaluate.score(part.truth, part.answers[CANDIDATE].scores, part.recordings) for one, part in heard.rows.items()}
    compared, numbers = _compared(heard.rows, material, trained, loaded, champion, progress)
    own = columns(loaded, material.species)
    known = golden.choose(rows, material.labels, own >= 0, CHAMPION if champion else None)
    waves = golden.waves(known)
    name_of = {label: loaded.label_names[n] for label, n in zip(material.labels, own, strict=True) if n >= 0}
    say(f"{len(known)} known clips; the set is {material.digest[:12]}.")
    asked = [
        Check("release", True, "its parts and files fit each other"),
        apart,
        checks.hears_enough(kind, overall[kind].mean_ap),
        checks.labels_in_place(rows.truth, rows.answers[CANDIDATE].scores),
        checks.none_worse(compared, champion.release.name if champion else None),
        checks.int8_agrees(_maps(heard.rows, FLOAT32) if files else {}, _maps(heard.rows, CANDIDATE)),
        checks.pytorch_agrees(loaded.release.metrics),
        checks.triton_agrees(
            served.triton_parity(settings, ears, waves), {one.name: one.precision for one in loaded.release.members}
        ),
        checks.fits(served.sizes(loaded), served.given(loaded)),
        checks.quick_enough(
            served.window_ms(loaded, waves[0]), served.window_ms(champion, waves[0]) if champion else None,
            served.network_ms(),
        ),
        *golden.golden(ears, known, name_of, CHAMPION if champion else None),
    ]  # fmt: skip
    metrics = {
        "release": release,
        "champion": champion.release.name if champion else None,
        "set": described(heard),
        **{str(one): asdict(found) for one, found in overall.items()},
        "slices": numbers,
        "labels_lost": sorted(set(champion.label_names) - set(loaded.label_names)) if champion else [],
        "labels_lacking": list(rows.answers[CANDIDATE].lacks),
    }
    return Verdict(tuple(asked), metrics, material.digest, loaded)


def _own_data(loaded: LoadedRelease, datasets: Path) -> Path:
    prepared = find_prepared(datasets, loaded.release.data_digest)
    if prepared is None or not prepared.source.is_dir():
        raise Invalid(Reason.BAD_REQUEST, f"What {loaded.release.name} was trained on is not here; name what judges it with --data.")
    return prepared.source


def _learnt(material: EvaluationSet, trained: Trained) -> list[str]:
    """Names of what judges for ever and was learnt from: soundscapes by their bytes or clip, and material of held-out days.

    A focal clip that another split gave to training is only left out of the set, for the champion too.
    """
    soundscapes = [sound.name for sound in material.of("soundscapes") if trained.knows(sound.recording, sound.group, sound.digest)]
    return soundscapes + list(trained.held_out)


def _maps(rows: dict[Any, Rows], name: str) -> dict[str, float]:
    found = {kind: evaluate.score(one.truth, one.answers[name].scores).mean_ap for kind, one in rows.items()}
    return {kind: value for kind, value in found.items() if value is not None}


def _compared(
    rows: dict[Any, Rows],
    material: EvaluationSet,
    trained: Trained,
    loaded: LoadedRelease,
    champion: LoadedRelease | None,
    progress: Progress,
) -> tuple[list[Compared], dict[str, Any]]:
    """Each slice beside the champion's on the labels that both know; plainly, too."""
    if champion is None:
        return [], {}
    shared = (columns(loaded, material.species) >= 0) & (columns(champion, material.species) >= 0)
    out: list[Compared] = []
    numbers: dict[str, Any] = {}
    for kind, one in rows.items():
        groups, unit = _groups(one)
        parts = [Slice("all", kind, np.ones(one.truth.shape, bool)), *slices(one, material.species, trained.clips or material.clips)]
        for n, part in enumerate(parts):
            found = compare(part, one, one.answers[CANDIDATE].scores, one.answers[CHAMPION].scores, shared, groups)
            positives = int((one.truth & part.cells & shared).sum())
            gated = positives >= MIN_POSITIVES and len(np.unique(groups)) >= MIN_GROUPS
            name = kind if part.family == "all" else f"{kind}, {part.name}"
            out.append(Compared(name, positives, found, gated))
            numbers[name] = {"positives": positives, "gated": gated, "over": unit, "difference": asdict(found) if found else None}
            progress(f"Comparing {kind}", n + 1, len(parts))
    return out, numbers


def _groups(rows: Rows) -> tuple[npt.NDArray[np.str_], str]:
    """What a resample draws whole: a stream's days, or recordings where there are too few of those."""
    if len(np.unique(rows.groups)) >= MIN_GROUPS:
        return rows.groups, "streams' days"
    return rows.recordings, "recordings"
