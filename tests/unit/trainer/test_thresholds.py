"""From which score on a species counts as heard."""

from __future__ import annotations

import numpy as np

from trainer.releases.thresholds import HIGHEST, LOWEST, choose


def test_a_threshold_lies_where_the_classes_part() -> None:
    rng = np.random.default_rng(0)
    truth = rng.random((400, 2)) < 0.3
    scores = np.where(truth, rng.uniform(0.62, 1.0, truth.shape), rng.uniform(0.0, 0.58, truth.shape)).astype(np.float32)
    common, own = choose(truth, scores)
    assert 0.58 <= common <= 0.62
    assert ((own >= 0.58) & (own <= 0.62)).all()


def test_few_examples_take_the_threshold_of_all_and_every_one_is_bounded() -> None:
    rng = np.random.default_rng(1)
    truth = np.zeros((200, 3), bool)
    truth[:80, 0], truth[:60, 1], truth[:3, 2] = True, True, True
    scores = rng.random(truth.shape).astype(np.float32) * np.float32(0.1)
    common, own = choose(truth, scores)
    assert own[2] == common
    assert (own >= LOWEST).all() and (own <= HIGHEST).all()
