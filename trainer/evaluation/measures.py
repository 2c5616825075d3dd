"""What a score leaves out: who is named how often, instead of whom, and what a confidence is worth. Pure functions on arrays."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from soundscape.features import Float32
from soundscape.taxonomy import Species

Bool = npt.NDArray[np.bool_]

NOTHING = "nothing"
BINS = 10
"""Of the reliability curve, as wide as each other."""


@dataclass(frozen=True)
class Confused:
    """Counts of truth against answer by taxon, int (taxa + 1, taxa + 1), the last one being NOTHING; and the commonest pairs of species."""

    names: tuple[str, ...]
    table: npt.NDArray[np.int64]
    pairs: tuple[tuple[str, str, int], ...]


def confusions(truth: Bool, named: Bool, scores: Float32, species: tuple[Species, ...]) -> Confused:
    """Where wrong answers come from. Each true label is counted once: as itself if it was named, else as the highest-scored wrong name of
    its row, else as nothing. Wrong names that stand in for no missed label come from nothing."""
    taxa = sorted({one.taxon for one in species})
    place = np.array([taxa.index(one.taxon) for one in species])
    table = np.zeros((len(taxa) + 1, len(taxa) + 1), np.int64)
    pairs: Counter[tuple[int, int]] = Counter()
    for row in np.flatnonzero((truth | named).any(axis=1)):
        for column in np.flatnonzero(truth[row] & named[row]):
            table[place[column], place[column]] += 1
        missed = np.flatnonzero(truth[row] & ~named[row])
        wrong = sorted(np.flatnonzero(named[row] & ~truth[row]), key=lambda column, row=row: -scores[row, column])  # type: ignore[misc]
        for n, column in enumerate(missed):
            answer = wrong[n] if n < len(wrong) else None
            table[place[column], len(taxa) if answer is None else place[answer]] += 1
            if answer is not None:
                pairs[int(column), int(answer)] += 1
        for answer in wrong[len(missed) :]:
            table[len(taxa), place[answer]] += 1
    common = sorted(pairs.items(), key=lambda item: (-item[1], item[0]))[:10]
    return Confused((*taxa, NOTHING), table, tuple((species[a].label, species[b].label, n) for (a, b), n in common))


def reliability(truth: Bool, scores: Float32) -> list[dict[str, float]]:
    """Of all scores in each bin: their mean, the share that was true, and how many they are; empty bins are left out."""
    which = np.minimum((scores * BINS).astype(int), BINS - 1)
    out = []
    for n in range(BINS):
        inside = which == n
        if inside.any():
            out.append({"said": float(scores[inside].mean()), "true": float(truth[inside].mean()), "n": int(inside.sum())})
    return out


def calibration_error(bins: list[dict[str, float]]) -> float | None:
    """Expected calibration error over the bins above the lowest, which holds nearly all scores; None where there are none."""
    upper = [one for one in bins if one["said"] >= 1 / BINS]
    total = sum(one["n"] for one in upper)
    return sum(one["n"] * abs(one["said"] - one["true"]) for one in upper) / total if total else None


def precision_recall(truth: Bool, scores: Float32, points: int = 101) -> list[tuple[float, float]]:
    """(recall, precision) over all cells together, at the thresholds that reach each of `points` recalls."""
    total = int(truth.sum())
    if not total:
        return []
    order = np.argsort(-scores, axis=None, kind="stable")
    hits = np.cumsum(truth.ravel()[order])
    at = np.searchsorted(hits, np.unique(np.ceil(np.linspace(1, total, points))))
    return [(float(hits[n] / total), float(hits[n] / (n + 1))) for n in at]


def coverage(truth: Bool, named: Bool) -> dict[str, int]:
    """How many species are there, how many of them were ever named where they are, and how many were named that are nowhere."""
    there, right = truth.any(axis=0), (truth & named).any(axis=0)
    return {"there": int(there.sum()), "ever_named": int(right.sum()), "named_but_nowhere": int((named.any(axis=0) & ~there).sum())}


def by_species(
    truth: Bool, named: Bool, auc: npt.NDArray[np.float64], ap: npt.NDArray[np.float64], species: tuple[Species, ...]
) -> list[dict[str, Any]]:
    """Rows in which each species is there and was named (label frequency, true and predicted), and its scores; without either, left out."""
    return [
        {
            "label": one.label, "scientific": one.scientific, "en": one.en, "taxon": one.taxon,
            "there": int(truth[:, n].sum()), "named": int(named[:, n].sum()), "right": int((truth & named)[:, n].sum()),
            "auc": _number(auc[n]), "ap": _number(ap[n]),
        }
        for n, one in enumerate(species)
        if truth[:, n].any() or named[:, n].any()
    ]  # fmt: skip


def _number(value: float) -> float | None:
    return None if np.isnan(value) else round(float(value), 4)
