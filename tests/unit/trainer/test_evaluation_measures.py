"""What a score leaves out."""

from __future__ import annotations

import numpy as np
import pytest

from soundscape.taxonomy import Species
from trainer.evaluation.measures import by_species, calibration_error, confusions, coverage, precision_recall, reliability

TAXA = {"a": "Aves", "b": "Aves", "c": "Insecta"}
SPECIES = tuple(Species(label=one, scientific=one, en=one, es=one, taxon=taxon) for one, taxon in TAXA.items())


def test_each_call_is_counted_once_as_what_it_was_taken_for() -> None:
    truth = np.array([[1, 0, 0], [1, 1, 0], [0, 0, 0], [0, 0, 1]], bool)
    named = np.array([[1, 0, 0], [1, 0, 1], [0, 1, 0], [0, 0, 0]], bool)
    found = confusions(truth, named, named.astype(np.float32), SPECIES)
    assert found.names == ("Aves", "Insecta", "nothing")
    assert found.table.tolist() == [[2, 1, 0], [0, 0, 1], [1, 0, 0]]
    assert found.pairs == (("b", "c", 1),)
    assert found.table[:2].sum() == truth.sum()


def test_reliability_is_the_share_that_was_true() -> None:
    scores = np.array([[0.05, 0.05, 0.95, 0.95, 0.95, 1.0]], np.float32)
    truth = np.array([[0, 0, 1, 1, 0, 1]], bool)
    low, high = reliability(truth, scores)
    assert (low["n"], low["true"], high["n"], high["true"]) == (2, 0.0, 4, 0.75)
    assert calibration_error([low, high]) == pytest.approx(high["said"] - 0.75)
    assert calibration_error([low]) is None


def test_precision_is_told_at_every_recall() -> None:
    truth, scores = np.array([[1], [0], [1], [0]], bool), np.array([[0.9], [0.8], [0.7], [0.1]], np.float32)
    assert precision_recall(truth, scores) == [(0.5, 1.0), (1.0, pytest.approx(2 / 3))]
    assert precision_recall(np.zeros((2, 1), bool), scores[:2]) == []


def test_coverage_and_frequency_tell_truth_from_answer() -> None:
    truth = np.array([[1, 1, 0], [1, 0, 0]], bool)
    named = np.array([[1, 0, 1], [0, 0, 1]], bool)
    assert coverage(truth, named) == {"there": 2, "ever_named": 1, "named_but_nowhere": 1}
    nan = np.array([1.0, np.nan, np.nan])
    found = by_species(truth, named, nan, nan, SPECIES)
    assert [(one["there"], one["named"], one["right"], one["ap"]) for one in found] == [(2, 1, 1, 1.0), (1, 0, 0, None), (0, 2, 0, None)]
