"""What the gate asks, question by question."""

from __future__ import annotations

import numpy as np
import pytest

from trainer.evaluation.evaluate import Difference
from trainer.gate import checks
from trainer.gate.checks import Check, Compared, Parity
from trainer.gate.run import Verdict


def _of(high: float, *, gated: bool = True) -> Compared:
    return Compared("soundscapes, Aves", 40, Difference(high - 0.1, high - 0.2, high, 9), gated)


def test_half_of_the_map_is_not_enough_and_more_is() -> None:
    assert not checks.hears_enough("soundscapes", 0.5).passed
    assert checks.hears_enough("soundscapes", 0.501).passed
    assert not checks.hears_enough("focal", None).passed


def test_only_a_slice_that_is_surely_worse_and_large_enough_refuses() -> None:
    assert checks.none_worse([_of(0.0), _of(0.2)], "old").passed
    assert checks.none_worse([_of(-0.01, gated=False)], "old").passed
    assert checks.none_worse([Compared("x", 40, None, True)], "old").passed
    assert checks.none_worse([_of(-0.01)], None).passed
    hair = Compared("soundscapes", 400, Difference(-0.002, -0.003, -0.001, 9), True)
    assert checks.none_worse([hair], "old").passed, "int8 alone may cost as much"
    found = checks.none_worse([_of(0.1), _of(-0.01)], "old")
    assert not found.passed and "old" in found.says and "Aves by 0.110 (n = 40)" in found.says


def test_labels_in_another_order_are_told_from_ears_that_hear_nothing() -> None:
    rng = np.random.default_rng(0)
    truth = np.eye(5, dtype=bool)[rng.integers(0, 5, 200)]
    right = (truth * 0.8 + rng.random(truth.shape) * 0.4).astype(np.float32)
    assert checks.labels_in_place(truth, right).passed
    turned = checks.labels_in_place(truth, np.roll(right, 1, axis=1))
    assert not turned.passed and turned.numbers["best"] > 0.9 > 0.5 > turned.numbers["mean_ap"]
    assert checks.labels_in_place(truth, rng.random(truth.shape).astype(np.float32)).passed, "noise fits no order of the labels"


def test_int8_may_lose_a_hundredth_on_every_kind() -> None:
    assert checks.int8_agrees({}, {"focal": 0.1}).passed
    assert checks.int8_agrees({"soundscapes": 0.8, "focal": 0.9}, {"soundscapes": 0.795, "focal": 0.95}).passed
    assert not checks.int8_agrees({"soundscapes": 0.8, "focal": 0.9}, {"soundscapes": 0.8, "focal": 0.88}).passed


def test_parity_with_pytorch_of_a_chosen_form_is_held_to_its_bound() -> None:
    chosen = {"variant": "onnx-int8-static", "largest_difference": 0.1, "bound": 0.15}
    told = {"int8": {"onnx_difference": 0.5}, "optimized": {"members": {"small": chosen}}}
    assert checks.pytorch_agrees(told).passed
    chosen["bound"] = 0.05
    assert not checks.pytorch_agrees(told).passed


def test_parity_with_pytorch_is_what_training_recorded() -> None:
    assert checks.pytorch_agrees({"int8": {"onnx_difference": 1e-5}}).passed
    assert not checks.pytorch_agrees({"int8": {"onnx_difference": 0.1}}).passed
    unknown = checks.pytorch_agrees({})
    assert unknown.passed and not unknown.asked and unknown.says.startswith("not asked")


def test_parity_with_triton_holds_fails_or_was_not_asked() -> None:
    precisions = {"a": "int8", "b": "fp32"}
    assert checks.triton_agrees(Parity({"a": 0.01, "b": 0.0001}), precisions).passed
    refused = checks.triton_agrees(Parity({"a": 0.01, "b": 0.01}), precisions)
    assert not refused.passed and "b by" in refused.says
    deaf = checks.triton_agrees(Parity(failed="it was loaded and does not answer"), precisions)
    assert not deaf.passed and deaf.asked and "does not answer" in deaf.says
    away = checks.triton_agrees(Parity(unasked="no Triton answers here"), precisions)
    assert away.passed and not away.asked and away.says == "not asked: no Triton answers here"


def test_a_verdict_says_what_was_not_asked_whether_or_not_it_passes() -> None:
    away = checks.triton_agrees(Parity(unasked="no Triton answers here"), {})
    for other in (Check("size", True, "small"), Check("size", False, "large")):
        verdict = Verdict((other, away), {})
        assert verdict.passed is other.passed
        assert verdict.plain()["metrics"]["not_asked"] == ["triton: not asked: no Triton answers here"]
    assert Verdict((Check("size", True, "small"),), {}).not_asked == []


def test_size_counts_for_our_own_members() -> None:
    assert checks.fits({"own": 25_000_000}, []).passed
    assert not checks.fits({"own": 25_000_001}, []).passed
    assert checks.fits({"birdnet": 51_000_000}, ["birdnet"]).passed


@pytest.mark.parametrize(("own", "champion", "passed"), [(65.0, None, True), (66.0, None, False), (66.0, 22.0, True), (66.0, 21.0, False)])
def test_latency_is_thirteen_networks_or_three_champions(own: float, champion: float | None, passed: bool) -> None:
    found = checks.quick_enough(own, champion, 5.0)
    assert found.passed is passed and f"{own:.1f} ms" in found.says


def test_material_of_the_set_that_was_learnt_refuses() -> None:
    assert checks.kept_apart([], True).passed
    found = checks.kept_apart(["a", "b", "c", "d"], True)
    assert not found.passed and "4 sounds" in found.says and "…" in found.says


def test_silence_refuses_and_noise_is_only_told() -> None:
    assert checks.silent_on_silence([], []).passed
    assert not checks.silent_on_silence(["a"], []).passed
    told = checks.silent_on_silence([], ["cicada"])
    assert told.passed and "cicada" in told.says


def test_known_clips_refuse_when_most_fail_that_the_champion_knows_or_when_all_do() -> None:
    assert checks.steady({}, 5).passed and not checks.steady({"clip": ["a"]}, 5).passed
    assert checks.knows("positive", {"1": True, "2": True, "3": False}, "old").passed, "one call may be missed"
    assert not checks.knows("positive", {"1": True, "2": False}, "old").passed
    assert checks.knows("positive", {"1": True, "2": False, "3": False}, None).passed
    assert not checks.knows("negative", {"1": False, "2": False}, None).passed
    assert "no known negative" in checks.knows("negative", {}, "old").says
