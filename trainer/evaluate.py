"""How well scores fit the truth: macro ROC-AUC by BirdCLEF's rule, macro mAP, and how sure one can be of them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.stats import rankdata

Bool = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.floating]

BOOTSTRAPS = 200
INTERVAL = (2.5, 97.5)
"""Percentiles: 95 % of the resamples lie between."""


@dataclass(frozen=True)
class Score:
    """A macro score over the classes that could be scored. `low` and `high` are the bootstrap's interval over recordings."""

    auc: float | None
    mean_ap: float | None
    classes: int
    """Classes with at least one positive and one negative row: BirdCLEF 2025 scores these."""
    rows: int
    recordings: int
    auc_interval: tuple[float, float] | None = None
    mean_ap_interval: tuple[float, float] | None = None


def scorable(truth: Bool) -> Bool:
    """Which columns have a positive (BirdCLEF's rule) and also a negative (without which ROC-AUC does not exist), bool (labels,)."""
    positives = truth.sum(axis=0)
    return np.asarray((positives > 0) & (positives < len(truth)))


def auc_by_class(truth: Bool, scores: Floats) -> npt.NDArray[np.float64]:
    """ROC-AUC of each column, float64 (labels,), NaN where it cannot be scored; from bool and float (rows, labels).

    By ranks (Mann and Whitney): ties count half, as in scikit-learn's `roc_auc_score`.
    """
    positives = truth.sum(axis=0).astype(np.float64)
    negatives = len(truth) - positives
    ranks = np.where(truth, rankdata(scores, axis=0), 0.0).sum(axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(np.where(scorable(truth), (ranks - positives * (positives + 1) / 2) / (positives * negatives), np.nan))


def ap_by_class(truth: Bool, scores: Floats) -> npt.NDArray[np.float64]:
    """Average precision of each column, float64 (labels,), NaN where it cannot be scored; as scikit-learn's, ties included."""
    out = np.full(truth.shape[1], np.nan)
    for column in np.flatnonzero(scorable(truth)):
        order = np.argsort(-scores[:, column], kind="stable")
        ranked, hits = scores[order, column], np.cumsum(truth[order, column])
        ends = np.append(np.flatnonzero(np.diff(ranked)), len(ranked) - 1)  # tied rows are found together
        precision, recall = hits[ends] / (ends + 1.0), hits[ends] / hits[-1]
        out[column] = np.sum(np.diff(recall, prepend=0.0) * precision)
    return out


def score(truth: Bool, scores: Floats, recordings: npt.NDArray[np.str_] | None = None, bootstraps: int = BOOTSTRAPS) -> Score:
    """Macro AUC and mAP of scores, bool and float (rows, labels), with intervals over `recordings` (rows,) if these are given.

    Whole recordings are drawn again, because the rows of one recording are not independent of each other.
    """
    names, which = np.unique(recordings, return_inverse=True) if recordings is not None else (np.arange(len(truth)), None)
    auc, mean_ap = _macro(truth, scores)
    found = Score(auc, mean_ap, int(scorable(truth).sum()), len(truth), len(names))
    if which is None or len(names) < 2 or auc is None:
        return found
    rng = np.random.default_rng(0)
    rows = [np.flatnonzero(which == n) for n in range(len(names))]
    drawn = []
    for _ in range(bootstraps):
        again = np.concatenate([rows[n] for n in rng.integers(0, len(rows), len(rows))])
        one = _macro(truth[again], scores[again])
        if one[0] is not None and one[1] is not None:
            drawn.append((one[0], one[1]))
    if not drawn:
        return found
    low, high = np.percentile(np.array(drawn), INTERVAL, axis=0)
    return Score(
        auc, mean_ap, found.classes, found.rows, found.recordings, (float(low[0]), float(high[0])), (float(low[1]), float(high[1]))
    )


def score_by(groups: dict[str, npt.NDArray[np.intp]], truth: Bool, scores: Floats) -> dict[str, Score]:
    """The macro score of each group of columns (a taxon, say) that has a class to score."""
    out = {name: score(truth[:, columns], scores[:, columns]) for name, columns in groups.items()}
    return {name: one for name, one in out.items() if one.classes}


def _macro(truth: Bool, scores: Floats) -> tuple[float | None, float | None]:
    if not scorable(truth).any():
        return None, None
    return float(np.nanmean(auc_by_class(truth, scores))), float(np.nanmean(ap_by_class(truth, scores)))
