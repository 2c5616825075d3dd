"""Resampled scores, paired differences, and parts of a score."""

from __future__ import annotations

import numpy as np
import pytest

from trainer.evaluation.evaluate import ap_by_class, difference, mean_ap_between, resamples, top_k, weighted_ap, within


def _some(seed: int, rows: int = 60, labels: int = 4) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    truth = rng.random((rows, labels)) < 0.3
    return truth, np.round(truth * 0.4 + rng.random((rows, labels)), 1)  # rounded: many ties


@pytest.mark.parametrize("seed", range(4))
def test_a_weight_of_two_is_a_row_that_is_there_twice(seed: int) -> None:
    truth, scores = _some(seed)
    times = np.random.default_rng(seed).integers(0, 3, len(truth))
    drawn = ap_by_class(np.repeat(truth, times, axis=0), np.repeat(scores, times, axis=0))
    np.testing.assert_allclose(weighted_ap(truth, scores, times[None].astype(float))[0], drawn, rtol=1e-6)
    np.testing.assert_allclose(weighted_ap(truth, scores, np.ones((1, len(truth))))[0], ap_by_class(truth, scores), rtol=1e-6)


def test_a_resample_draws_whole_groups() -> None:
    weights = resamples(np.array(["a", "b", "a", "c"]), 50)
    assert (weights[:, 0] == weights[:, 2]).all()
    assert (weights[:, [0, 1, 3]].sum(axis=1) == 3).all() and weights.std() > 0


def test_cells_that_do_not_count_change_no_score_whatever_is_in_them() -> None:
    truth, scores = _some(1)
    cells = np.random.default_rng(1).random(truth.shape) < 0.6
    spoilt = np.where(cells, scores, 99.0)
    one, other = (ap_by_class(*within(cells, truth | ~cells, given)) for given in (scores, spoilt))
    np.testing.assert_array_equal(one, other)
    alone = [ap_by_class(truth[cells[:, n], n : n + 1], scores[cells[:, n], n : n + 1])[0] for n in range(truth.shape[1])]
    np.testing.assert_allclose(one, alone)


def test_a_difference_is_paired_and_surer_than_two_intervals() -> None:
    truth, scores = _some(2, rows=200)
    groups = np.repeat([str(n) for n in range(20)], 10)
    worse = scores - 0.15 * truth
    found = difference(truth, scores, worse, groups)
    assert found is not None and found.groups == 20
    assert 0 < found.low < found.mean < found.high
    back = difference(truth, worse, scores, groups)
    assert back is not None and back.high == pytest.approx(-found.low) and back.high < 0
    same = difference(truth, scores, scores, groups)
    assert same is not None and (same.low, same.mean, same.high) == (0, 0, 0)
    between = mean_ap_between(truth, scores, groups)
    assert between is not None and found.high - found.low < 2 * (between[1] - between[0])


def test_nothing_to_score_is_none() -> None:
    nothing = np.zeros((4, 2), bool)
    groups = np.array(["a", "b", "c", "d"])
    assert difference(nothing, np.zeros((4, 2)), np.ones((4, 2)), groups) is None
    assert mean_ap_between(nothing, np.zeros((4, 2)), groups) is None
    assert top_k(nothing, np.zeros((4, 2)), 1) is None
    some = np.array([[1, 0], [0, 1]], bool)
    assert mean_ap_between(some, np.eye(2), np.array(["a", "a"])) is None, "one recording says nothing of others"


def test_top_k_counts_rows_with_a_call_and_one_who_calls_is_enough() -> None:
    truth = np.array([[1, 1, 0], [0, 0, 1], [0, 0, 0], [1, 0, 0]], bool)
    scores = np.array([[0.1, 0.9, 0.5], [0.8, 0.7, 0.6], [0.9, 0.9, 0.9], [0.5, 0.6, 0.1]])
    for k, share in ((1, 1 / 3), (2, 2 / 3), (3, 1.0)):
        found = top_k(truth, scores, k)
        assert found is not None and found[0] == pytest.approx(share) and found[1] == 3
