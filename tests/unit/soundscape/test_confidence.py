"""What a release records of how sure it is, and how other scores are counted by it."""

from __future__ import annotations

import numpy as np

from soundscape.confidence import counts, record


def test_the_deciles_of_what_is_named_are_recorded() -> None:
    scores = np.linspace(0.0, 1.0, 1001, dtype=np.float32)[:, None].repeat(2, axis=1)
    said = record(scores, np.array([0.5, 2.0]), "validation")
    assert said["on"] == "validation" and sum(said["counts"]) == 501, "nothing of the second label is named"
    assert np.allclose(said["edges"], np.linspace(0.55, 0.95, 9), atol=1e-3)
    assert max(said["counts"]) - min(said["counts"]) <= 2


def test_equal_scores_share_a_bin() -> None:
    said = record(np.array([[0.9]] * 80 + [[0.6]] * 20, np.float32), np.array([0.5]), "train")
    assert said["edges"] == [0.6, 0.9] and said["counts"] == [0, 20, 80]
    assert counts(said["edges"], [0.55, 0.6, 0.89, 0.9, 1.0]).tolist() == [1, 2, 2]


def test_a_release_that_names_nothing_has_one_empty_bin() -> None:
    assert record(np.zeros((3, 2), np.float32), np.array([0.5, 0.5]), "train") == {"on": "train", "edges": [], "counts": [0]}
