"""The scores that decide which model is served."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score

from trainer.evaluation.evaluate import INTERVAL, ap_by_class, auc_by_class, difference, score, score_by


def _some(seed: int, rows: int = 60, labels: int = 5) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    truth = rng.random((rows, labels)) < 0.3
    return truth, np.round(truth * 0.3 + rng.random((rows, labels)), 1)  # rounded: many ties


@pytest.mark.parametrize("seed", range(5))
def test_class_scores_are_those_of_scikit_learn_ties_included(seed: int) -> None:
    truth, scores = _some(seed)
    for column in range(truth.shape[1]):
        assert auc_by_class(truth, scores)[column] == pytest.approx(roc_auc_score(truth[:, column], scores[:, column]))
        assert ap_by_class(truth, scores)[column] == pytest.approx(average_precision_score(truth[:, column], scores[:, column]))


def test_only_columns_with_a_positive_are_scored_and_their_number_is_told() -> None:
    truth = np.array([[1, 0, 1], [0, 0, 1], [1, 0, 1], [0, 0, 1]], bool)  # the second never, the third always
    scores = np.array([[0.9, 0.9, 0.1], [0.1, 0.8, 0.2], [0.8, 0.7, 0.3], [0.2, 0.6, 0.4]])
    found = score(truth, scores)
    assert (found.auc, found.mean_ap, found.classes, found.rows) == (1.0, 1.0, 1, 4)


def test_nothing_to_score_is_none_and_not_a_number() -> None:
    found = score(np.zeros((4, 2), bool), np.zeros((4, 2)))
    assert (found.auc, found.mean_ap, found.classes) == (None, None, 0)


def test_a_constant_scores_one_half() -> None:
    truth, scores = _some(1)
    assert score(truth, np.zeros_like(scores)).auc == 0.5


def test_intervals_draw_whole_recordings() -> None:
    truth, scores = _some(2, rows=20)
    apart = score(truth, scores, np.array([str(n) for n in range(20)]))
    assert apart.auc_interval is not None and apart.auc is not None
    assert apart.auc_interval[0] < apart.auc < apart.auc_interval[1]
    # 50 copies of each row are one recording each: no surer than before, though there are 1,000 rows
    again = score(np.repeat(truth, 50, axis=0), np.repeat(scores, 50, axis=0), np.repeat([str(n) for n in range(20)], 50))
    assert again.auc_interval == pytest.approx(apart.auc_interval)
    assert (again.recordings, again.rows) == (20, 1000)


def test_groups_without_a_class_to_score_are_left_out() -> None:
    truth, scores = _some(3)
    truth[:, 4] = False
    found = score_by({"Aves": np.array([0, 1]), "Mammalia": np.array([4])}, truth, scores)
    assert list(found) == ["Aves"] and found["Aves"].classes == 2


def test_the_interval_of_a_difference_is_as_wide_as_its_percentiles_say() -> None:
    truth, scores = _some(4)
    _, others = _some(5)
    recordings = np.array([str(n // 2) for n in range(len(truth))])
    one_sided, two_sided = difference(truth, scores, others, recordings), difference(truth, scores, others, recordings, INTERVAL)
    assert one_sided is not None and two_sided is not None
    assert one_sided.mean == two_sided.mean and one_sided.groups == two_sided.groups == 30
    assert one_sided.low < two_sided.low < two_sided.mean < two_sided.high < one_sided.high


def test_one_recording_says_nothing_of_another() -> None:
    """An interval of no width would be taken for certainty."""
    truth, scores = _some(4)
    _, others = _some(5)
    assert difference(truth, scores, others, np.array(["one"] * len(truth))) is None
