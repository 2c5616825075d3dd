"""From fused scores to confidences, fitted on composed windows: a line for all species, a curve for those heard often enough."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.optimize import isotonic_regression, minimize

from soundscape.calibration import Calibration, log_odds
from soundscape.release import LoadedRelease
from trainer.data import store
from trainer.evaluation.measures import calibration_error, reliability
from trainer.releases.fusing import Answered, answer, changed

Bool = npt.NDArray[np.bool_]
Float32 = npt.NDArray[np.float32]

CURVE_POSITIVES = 20
"""Composed windows in which a species must be heard to have a curve of its own."""
CURVE_TRUST = 20.0
"""Windows that the common line counts as, beside a species' own curve."""
GRID = (0.0, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 0.9, 1.0)
"""Scores at which a curve is drawn, beside the centres of its steps."""


def calibrate(loaded: LoadedRelease, composed: Answered, prepared: store.Prepared) -> tuple[LoadedRelease, str]:
    """The release with a line through all logits, and a curve for each species heard in CURVE_POSITIVES windows; and what was done."""
    scores = answer(loaded, composed.by_member, prepared)
    logits = log_odds(scores).ravel()
    there = composed.truth.ravel()

    def loss(line: npt.NDArray[np.float64]) -> float:
        z = line[0] * logits + line[1]
        return float(np.mean(np.logaddexp(0.0, z) - there * z))

    slope, intercept = minimize(loss, np.array([1.0, 0.0]), bounds=[(0.1, 10.0), (-10.0, 10.0)], method="L-BFGS-B").x
    line = Calibration(slope=float(slope), intercept=float(intercept))
    curves = {
        label: _curve(scores[:, column], composed.truth[:, column], line)
        for column, label in enumerate(prepared.labels)
        if composed.truth[:, column].sum() >= CURVE_POSITIVES
    }
    rare = len(prepared.labels) - len(curves)
    said = f"Calibrated: {len(curves)} species by curves of their own, {rare} too rare for one by the common line."
    made = line.model_copy(update={"curves": curves})
    return changed(loaded, calibration=made), said


def _curve(scores: Float32, there: Bool, line: Calibration) -> tuple[tuple[float, float], ...]:
    """Isotonic regression drawn through the centres of its steps, and drawn towards the line: so it rises everywhere."""
    order = np.argsort(scores, kind="stable")
    steps = isotonic_regression(there[order].astype(np.float64))
    blocks = list(zip(steps.blocks[:-1], steps.blocks[1:], strict=True))
    centres = [float(scores[order][first:end].mean()) for first, end in blocks]
    worth = [float(steps.x[first]) for first, _ in blocks]
    at = np.unique(np.round([*GRID, *centres], 4))
    common = line.apply(at[:, None].astype(np.float32), ("",))[:, 0]
    seen = float(there.sum())
    both = (seen * np.interp(at, centres, worth) + CURVE_TRUST * common) / (seen + CURVE_TRUST)
    return tuple((float(x), float(y)) for x, y in zip(at, np.round(np.maximum.accumulate(both), 6).clip(0, 1), strict=True))


def calibration_metrics(loaded: LoadedRelease, clips: Answered, composed: Answered, prepared: store.Prepared) -> dict[str, Any]:
    """Reliability on validation clips before and after, and which species were too rare for a curve."""
    loaded = changed(loaded, context=0.0)
    plain = changed(loaded, calibration=None)
    curves = loaded.release.calibration.curves if loaded.release.calibration else {}
    before, after = (reliability(clips.truth, answer(one, clips.by_member, prepared)) for one in (plain, loaded))
    return {
        "fitted_on": f"{len(composed.truth)} composed windows",
        "error_before": calibration_error(before),
        "error_after": calibration_error(after),
        "reliability": after,
        "too_rare": [label for label in prepared.labels if label not in curves],
    }
