"""From a fused score to a confidence: how often a species that scored so was there, on windows that judge."""

from __future__ import annotations

from typing import Annotated

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field

Float32 = npt.NDArray[np.float32]
Share = Annotated[float, Field(ge=0, le=1)]

EDGE = 1e-4
"""Scores are moved so far from 0 and 1 before their log-odds are taken."""


def log_odds(scores: Float32) -> Float32:
    """log(p / (1 - p)) of probabilities, float32 of the same shape."""
    inside = scores.clip(EDGE, 1 - EDGE)
    return np.asarray(np.log(inside / (1 - inside)), np.float32)


class Calibration(BaseModel):
    """A line through the logits for every label, and a curve for those that were heard often enough to have one of their own.

    The line is Platt's (1999), its slope an inverse temperature; a curve is an isotonic regression, linear between the centres of its
    steps. Both keep the order of a species' scores.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    slope: float = Field(1.0, gt=0)
    intercept: float = 0.0
    curves: dict[str, tuple[tuple[Share, Share], ...]] = Field(default_factory=dict)
    """By label: scores, rising, and what they are worth."""

    def apply(self, scores: Float32, labels: tuple[str, ...]) -> Float32:
        """Confidences float32 (windows, labels) of fused scores float32 (windows, labels); 0 stays 0."""
        out = 1.0 / (1.0 + np.exp(-(self.slope * log_odds(scores) + self.intercept)))
        for column, label in enumerate(labels):
            if label in self.curves:
                at, worth = zip(*self.curves[label], strict=True)
                out[:, column] = np.interp(scores[:, column], at, worth)
        out[scores == 0] = 0.0
        return np.asarray(out, np.float32)


class Thresholds(BaseModel):
    """From which confidence on a species is named: for all, and by label where it is another."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    threshold: Share
    thresholds: dict[str, Share] = Field(default_factory=dict)

    def by_label(self, labels: tuple[str, ...]) -> Float32:
        """float32 (labels,)."""
        return np.array([self.thresholds.get(label, self.threshold) for label in labels], np.float32)
