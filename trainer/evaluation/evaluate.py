"""How well scores fit the truth: macro ROC-AUC by BirdCLEF's rule, macro mAP, how sure one can be of them, and of a difference."""

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
PAIRED = 1000
"""Resamples of a difference: its hundredth part must be known."""
ONE_SIDED = (1.0, 99.0)
"""Percentiles: each alone bounds a difference with 99 %."""


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
        ends = np.append(np.flatnonzero(ranked[1:] != ranked[:-1]), len(ranked) - 1)  # tied rows are found together
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


@dataclass(frozen=True)
class Difference:
    """How much better the first scores than the second, in macro mAP on the same rows; `low` and `high` are its percentiles."""

    mean: float
    low: float
    high: float
    groups: int


def within(cells: Bool, truth: Bool, scores: Floats) -> tuple[Bool, Floats]:
    """Truth and scores of which only some cells, bool (rows, labels), count; the others rank below everything, where they harm no AP."""
    return truth & cells, np.where(cells, scores, -np.inf)


def resamples(groups: npt.NDArray[np.str_], draws: int = BOOTSTRAPS) -> Floats:
    """How often each row counts in each resample of whole groups (recordings, or a stream's days): float32 (draws, rows)."""
    names, which = np.unique(groups, return_inverse=True)
    drawn = np.random.default_rng(0).multinomial(len(names), np.full(len(names), 1 / len(names)), draws)
    return np.asarray(drawn[:, which], np.float32)


def weighted_ap(truth: Bool, scores: Floats, weights: Floats) -> npt.NDArray[np.float64]:
    """Average precision of each column under each weighting of the rows: float64 (draws, labels), NaN where no positive counts.

    From bool and float (rows, labels) and weights float (draws, rows); weights of 1 give `ap_by_class`.
    """
    out = np.full((len(weights), truth.shape[1]), np.nan)
    for column in np.flatnonzero(scorable(truth)):
        order = np.argsort(-scores[:, column], kind="stable")
        ranked, drawn = scores[order, column], weights[:, order]
        ends = np.append(np.flatnonzero(ranked[1:] != ranked[:-1]), len(ranked) - 1)
        found = np.cumsum(drawn * truth[order, column], axis=1, dtype=np.float64)[:, ends]
        seen, hits = np.cumsum(drawn, axis=1, dtype=np.float64)[:, ends], found[:, -1]
        precision = found / np.maximum(seen, 1e-9)
        area = (np.diff(found, prepend=0.0, axis=1) * precision).sum(axis=1)
        out[:, column] = np.where(hits > 0, area / np.maximum(hits, 1e-9), np.nan)
    return out


def mean_ap_between(truth: Bool, scores: Floats, recordings: npt.NDArray[np.str_]) -> tuple[float, float] | None:
    """The bootstrap's interval of macro mAP over recordings; None with one recording, or nothing to score."""
    if len(np.unique(recordings)) < 2 or not scorable(truth).any():
        return None
    drawn = _mean_of_classes(weighted_ap(truth, scores, resamples(recordings)))
    low, high = np.percentile(drawn, INTERVAL)
    return float(low), float(high)


def difference(
    truth: Bool, first: Floats, second: Floats, groups: npt.NDArray[np.str_], percentiles: tuple[float, float] = ONE_SIDED
) -> Difference | None:
    """Paired bootstrap over whole groups of the macro mAP of `first` less that of `second`; None where no class can be scored, or
    all rows are one group's, which says nothing of another.

    Of the `percentiles`, each of ONE_SIDED bounds the difference with 99 %; between those of INTERVAL it lies with 95 %.
    """
    if not scorable(truth).any() or len(np.unique(groups)) < 2:
        return None
    weights = resamples(groups, PAIRED)
    drawn = _mean_of_classes(weighted_ap(truth, first, weights) - weighted_ap(truth, second, weights))
    low, high = np.percentile(drawn, percentiles)
    mean = float(np.nanmean(ap_by_class(truth, first) - ap_by_class(truth, second)))
    return Difference(mean, float(low), float(high), len(np.unique(groups)))


def top_k(truth: Bool, scores: Floats, k: int) -> tuple[float, int] | None:
    """Share of the rows with somebody in them of which one who calls is among the k highest scores, and the number of such rows."""
    some = truth.any(axis=1)
    if not some.any():
        return None
    highest = np.argsort(-scores[some], axis=1, kind="stable")[:, :k]
    return float(np.take_along_axis(truth[some], highest, axis=1).any(axis=1).mean()), int(some.sum())


def _mean_of_classes(aps: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Macro mAP of each resample in which a class can be scored, float64 (up to draws,)."""
    return np.asarray(np.nanmean(aps[~np.isnan(aps).all(axis=1)], axis=1))


def _macro(truth: Bool, scores: Floats) -> tuple[float | None, float | None]:
    if not scorable(truth).any():
        return None, None
    return float(np.nanmean(auc_by_class(truth, scores))), float(np.nanmean(ap_by_class(truth, scores)))
