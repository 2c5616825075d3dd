"""A release against a folder with truth: everything that the report shows and the gate asks, as arrays and as one plain object."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from soundscape.errors import Invalid, Reason
from soundscape.features import Float32
from soundscape.release import LoadedRelease
from soundscape.taxonomy import Species
from trainer.evaluation import evaluate, measures, strain
from trainer.evaluation.hear import Ears
from trainer.evaluation.material import EvaluationSet, Kind, read_material
from trainer.evaluation.rivalry import rival_scores
from trainer.evaluation.rows import Heard, Rows, hear_set
from trainer.evaluation.slices import measure, slices
from trainer.evaluation.trained import Trained, trained_on
from trainer.progress import Counted, Progress

RELEASE = "release"
"""The name of the release among a set's answers."""


@dataclass
class Result:
    """An evaluation. `numbers` is plain and becomes report.json; `heard` holds the rows for whoever looks closer."""

    loaded: LoadedRelease
    heard: Heard
    numbers: dict[str, Any]
    curves: dict[str, list[strain.Point]] = field(default_factory=dict)

    @property
    def digest(self) -> str:
        """Of the frozen set."""
        return str(self.numbers["set"]["digest"])

    @property
    def name(self) -> str:
        """RELEASE-DATADIGEST: the folder of its report."""
        return f"{self.loaded.release.name}-{self.digest[:12]}"


def evaluate_release(
    loaded: LoadedRelease,
    data: Path,
    datasets: Path,
    *,
    say: Callable[[str], None] = lambda _: None,
    progress: Progress = lambda _what, _n, _of: None,
    with_rivals: bool = True,
    strain_windows: int = strain.WINDOWS,
    children: int | None = None,
) -> Result:
    """Evaluate a release by its served model files. `datasets` is where prepared data lies; `strain_windows` 0 leaves the curves out.

    Focal clips and soundscapes stay apart. What the release was trained on is left out, as far as its data set's manifest is there.
    Raises Invalid if the folder holds nothing to judge by, or a member does not run here.
    """
    trained = trained_on(loaded, datasets)
    material = read_material(data).without([trained])
    if not material.sounds:
        raise Invalid(Reason.BAD_REQUEST, f"{loaded.release.name} was trained on everything that {data} has to judge by.")
    if trained.prepared is None and loaded.release.data_digest:
        say("What the release was trained on is not on this machine: that nothing of it judges here cannot be checked.")
    ears = Ears(loaded)
    heard = hear_set(material, {RELEASE: ears}, lambda n, of: progress("Hearing the set", n, of), children)
    counts = trained.clips or material.clips
    rivals = rival_scores(heard, trained.prepared, say) if with_rivals else {}
    numbers: dict[str, Any] = {
        "release": loaded.release.name,
        "release_digest": loaded.digest,
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "set": described(heard),
        "labels_lacking": next(iter(heard.rows.values())).answers[RELEASE].lacks if heard.rows else (),
        "parts": {
            kind: _part(rows, material.species, counts, rivals.get(kind, {}), lambda n, of: progress("Scoring its parts", n, of))
            for kind, rows in heard.rows.items()
        },
    }
    curves: dict[str, list[strain.Point]] = {}
    if strain_windows:
        curves = strain.curves(material, ears, strain_windows, lambda n, of: progress("Straining its ears", n, of))
        if not curves:
            say("No curves of strain: they are made from focal clips of at least two species that were kept out of training.")
    numbers["strain"] = {name: [asdict(point) for point in points] for name, points in curves.items()}
    return Result(loaded, heard, numbers, curves)


def described(heard: Heard) -> dict[str, Any]:
    """The frozen set, plainly."""
    material: EvaluationSet = heard.material
    return {
        "folder": material.folder.name,
        "digest": material.digest,
        "sounds": {kind: len(material.of(kind)) for kind in heard.rows},
        "rows": {kind: len(rows.truth) for kind, rows in heard.rows.items()},
        "left_out_as_trained_on": list(material.dropped),
        "refused": [list(one) for one in heard.refused],
    }


def overall(rows: Rows, name: str = RELEASE) -> evaluate.Score:
    """The macro scores of a kind, with intervals over recordings."""
    return evaluate.score(rows.truth, rows.answers[name].scores, rows.recordings)


def _part(
    rows: Rows,
    species: tuple[Species, ...],
    counts: Mapping[str, int],
    rivals: Mapping[str, Float32],
    progress: Counted,
) -> dict[str, Any]:
    answers = rows.answers[RELEASE]
    confused = measures.confusions(rows.truth, answers.named, answers.scores, species)
    bins = measures.reliability(rows.truth, answers.scores)
    auc, ap = evaluate.auc_by_class(rows.truth, answers.scores), evaluate.ap_by_class(rows.truth, answers.scores)
    found = {}
    parts = list(slices(rows, species, counts))
    for n, part in enumerate(parts):
        found[f"{part.family}: {part.name}"] = asdict(measure(part, rows, answers.scores))
        progress(n + 1, len(parts))
    top = {k: evaluate.top_k(rows.truth, answers.scores, k) for k in (1, 5)}
    return {
        **asdict(overall(rows)),
        "top_1": top[1][0] if top[1] else None,
        "top_5": top[5][0] if top[5] else None,
        "rows_with_a_call": top[1][1] if top[1] else 0,
        "coverage": measures.coverage(rows.truth, answers.named),
        "rows_named_beyond_the_set": answers.beyond,
        "slices": found,
        "rivals": {name: asdict(evaluate.score(rows.truth, scores, rows.recordings)) for name, scores in rivals.items()},
        "confusions": {"names": confused.names, "table": confused.table.tolist(), "pairs": confused.pairs},
        "reliability": bins,
        "calibration_error": measures.calibration_error(bins),
        "species": measures.by_species(rows.truth, answers.named, auc, ap, species),
    }


__all__ = ["RELEASE", "Kind", "Result", "Trained", "described", "evaluate_release", "overall"]
