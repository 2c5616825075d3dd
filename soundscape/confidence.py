"""How sure a release is where it names something: what is recorded when it is made, so that live answers can be set beside it. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from soundscape.fuse import DIGITS

RECORD = "named_scores"
"""Its key among a release's metrics: `{"on", "edges", "counts"}`."""


def record(scores: npt.NDArray[np.float32], thresholds: npt.NDArray[np.floating[Any]], on: str) -> dict[str, Any]:
    """The deciles of the scores that reach their label's threshold, and how many lie between them.

    `scores` float32 (windows, labels) and `thresholds` (labels,) in [0, 1]; `on` says of what. Where many scores are equal, edges fall
    together and there are fewer bins.
    """
    named = np.round(scores[scores >= thresholds].astype(np.float64), DIGITS)  # as answers travel
    edges = np.unique(np.round(np.quantile(named, np.arange(1, 10) / 10, method="lower"), DIGITS)).tolist() if named.size else []
    return {"on": on, "edges": edges, "counts": counts(edges, named).tolist()}


def counts(edges: Sequence[float], scores: npt.ArrayLike) -> npt.NDArray[np.int_]:
    """How many of the scores lie in each bin, int (edges + 1,); one that is an edge lies above it."""
    return np.bincount(np.searchsorted(edges, np.asarray(scores, np.float64), side="right"), minlength=len(edges) + 1)
