"""From which score on a species counts as heard: chosen on composed windows of clips that were never trained on."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Bool = npt.NDArray[np.bool_]
Float32 = npt.NDArray[np.float32]

LOWEST, HIGHEST = 0.15, 0.9
"""A threshold outside of these says more about few examples than about the species."""
BETA = 0.5
"""F-beta: precision weighs twice as much as recall; a guide forgives a missed call sooner than a wrong name."""
MIN_POSITIVES = 10
GRID = np.round(np.arange(LOWEST, HIGHEST + 1e-9, 0.025), 3)


def choose(truth: Bool, scores: Float32) -> tuple[float, npt.NDArray[np.float64]]:
    """The threshold for all, and one for each label (labels,), from bool and float32 (windows, labels).

    The one with the best F-beta on the grid. A label with fewer than MIN_POSITIVES windows takes the threshold for all; the
    others are drawn halfway towards it, because one clip's windows resemble each other.
    """
    common = float(GRID[np.argmax([_f_beta(truth.ravel(), scores.ravel() >= at) for at in GRID])])
    own = np.full(truth.shape[1], common)
    for column in np.flatnonzero(truth.sum(axis=0) >= MIN_POSITIVES):
        best = float(GRID[np.argmax([_f_beta(truth[:, column], scores[:, column] >= at) for at in GRID])])
        own[column] = round((best + common) / 2, 3)
    return common, own


def _f_beta(truth: Bool, heard: Bool) -> float:
    right, wrong, missed = float((truth & heard).sum()), float((~truth & heard).sum()), float((truth & ~heard).sum())
    return (1 + BETA**2) * right / max(1e-9, (1 + BETA**2) * right + BETA**2 * missed + wrong)
