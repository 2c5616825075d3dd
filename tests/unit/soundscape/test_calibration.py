"""What a fused score is worth, and which thresholds hold where a member did not answer."""

from __future__ import annotations

import numpy as np

from soundscape.calibration import Calibration, Thresholds

SCORES = np.linspace(0, 1, 21, dtype=np.float32)[:, None].repeat(2, axis=1)


def test_a_line_through_the_logits_keeps_the_order_and_zero() -> None:
    """Twice the logit less one: 0.5 becomes 1 / (1 + e)."""
    found = Calibration(slope=2.0, intercept=-1.0).apply(SCORES, ("a", "b"))
    assert found[0].tolist() == [0.0, 0.0] and (np.diff(found[1:], axis=0) > 0).all()
    np.testing.assert_allclose(found[10], 1 / (1 + np.e), rtol=1e-5)


def test_a_curve_is_one_species_own() -> None:
    """Linear between its points; the other species keeps the line."""
    found = Calibration(curves={"b": ((0.0, 0.0), (0.5, 0.8), (1.0, 0.9))}).apply(SCORES, ("a", "b"))
    np.testing.assert_allclose(found[:, 0], SCORES[:, 0], atol=2e-4)
    np.testing.assert_allclose(found[[5, 10, 15], 1], [0.4, 0.8, 0.85], rtol=1e-5)


def test_a_threshold_of_its_own_stands_before_the_one_for_all() -> None:
    assert Thresholds(threshold=0.4, thresholds={"b": 0.7}).by_label(("a", "b")).tolist() == [np.float32(0.4), np.float32(0.7)]
