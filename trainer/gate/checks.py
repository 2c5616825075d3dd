"""What the gate asks of a release, one function a question. Pure: numbers in, a named answer out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from soundscape.features import Float32
from trainer.evaluation.evaluate import Difference, ap_by_class, scorable

MIN_MAP = 0.5
MAX_INT8_LOSS = 0.01
"""Of macro mAP, from float32 to int8 on the same windows."""
MAX_PYTORCH_DIFFERENCE = 1e-3
"""In logits, as training measured it when it exported (trainer/releases/quantize.py)."""
MAX_TRITON_DIFFERENCE = {"fp32": 1e-3, "fp16": 1e-2, "int8": 2e-2}
"""In probability, by precision: another build of the runtime may round int8 otherwise."""
MAX_MEMBER_BYTES = 25_000_000
NETWORK_TIMES, CHAMPION_TIMES = 13.0, 3.0
"""How many times what an int8 EfficientNet-B0 of 206 classes takes for one window on one thread beside it, or what the champion takes, a
release may take: on the processor that the design's numbers are of, 60 ms."""
MIN_GAIN = 0.2
"""In macro mAP, from which other labels for the same answers are no chance."""
MAJORITY = 0.5
"""Of the known clips that the champion answers rightly, more than this share must come out right. Without a champion to say which calls
can be heard at all, one must: a good release may miss a call, a broken one misses them all."""


@dataclass(frozen=True)
class Check:
    """One answer: what was asked, whether the release holds, one sentence, and the numbers."""

    name: str
    passed: bool
    says: str
    numbers: dict[str, Any] = field(default_factory=dict)
    asked: bool = True
    """False where nothing could be asked: nothing speaks against the release then, and nothing for it."""


@dataclass(frozen=True)
class Parity:
    """Triton beside the model files: by member the largest difference in probability; or why it was not asked, or what it failed at."""

    differences: Mapping[str, float] = field(default_factory=dict)
    unasked: str = ""
    failed: str = ""


@dataclass(frozen=True)
class Compared:
    """A slice of a kind of material beside the champion's. `gated` says whether it may decide."""

    name: str
    positives: int
    difference: Difference | None
    gated: bool


def hears_enough(kind: str, mean_ap: float | None) -> Check:
    """Macro mAP above MIN_MAP."""
    numbers = {"kind": kind, "mean_ap": mean_ap}
    if mean_ap is None:
        return Check("mean_ap", False, f"no species of the set could be scored on {kind}", numbers)
    says = f"macro mAP {mean_ap:.3f} on {kind} is {'above' if mean_ap > MIN_MAP else 'not above'} {MIN_MAP:g}"
    return Check("mean_ap", mean_ap > MIN_MAP, says, numbers)


def labels_in_place(truth: npt.NDArray[np.bool_], scores: Float32) -> Check:
    """Whether the answers would fit much better under other labels: then the labels are wrong, and not the ears."""
    from scipy.optimize import linear_sum_assignment

    counted = scorable(truth)
    own = float(np.nanmean(ap_by_class(truth, scores))) if counted.any() else 0.0
    if counted.sum() < 3 or own > MIN_MAP:
        return Check("labels", True, "its labels lie where its answers are", {"mean_ap": own})
    columns = np.flatnonzero(counted)
    fits = np.stack([ap_by_class(np.repeat(truth[:, [column]], scores.shape[1], axis=1), scores) for column in columns])
    rows, order = linear_sum_assignment(fits, maximize=True)
    best = float(fits[rows, order].mean())
    shifted = best > MIN_MAP and best - own >= MIN_GAIN
    says = f"its answers fit other labels than they are given: macro mAP {own:.3f} as labelled, {best:.3f} with the labels put in order"
    numbers = {"mean_ap": own, "best": best}
    return Check("labels", not shifted, says if shifted else "no other order of its labels would fit better", numbers)


def none_worse(compared: Sequence[Compared], champion: str | None) -> Check:
    """No slice that may decide is worse than the champion's, at one-sided 99 %, by more than what rounding to int8 alone may cost."""
    if champion is None:
        return Check("slices", True, "not asked: there is no champion to compare with", asked=False)
    sure = [one for one in compared if one.gated and one.difference is not None and one.difference.high < 0]
    worse = [one for one in sure if one.difference is not None and -one.difference.mean > MAX_INT8_LOSS]
    numbers = {"compared": len(compared), "gated": sum(one.gated for one in compared)}
    if not worse:
        return Check("slices", True, f"no slice is worse than {champion}'s ({numbers['gated']} could decide)", numbers)
    said = "; ".join(f"{one.name} by {-one.difference.mean:.3f} (n = {one.positives})" for one in worse if one.difference)
    return Check("slices", False, f"worse than {champion} on {said}", numbers | {"worse": [one.name for one in worse]})


def int8_agrees(whole: Mapping[str, float], small: Mapping[str, float]) -> Check:
    """Macro mAP of each kind by the float32 files and by those that are served; nothing to compare where one is not there."""
    if not whole:
        return Check("int8", True, "no float32 form lies beside an int8 one")
    losses = {kind: whole[kind] - small[kind] for kind in whole}
    kind = max(losses, key=lambda one: losses[one])
    says = f"int8 loses {losses[kind]:.4f} of the mAP on {kind}; at most {MAX_INT8_LOSS:g} may go"
    return Check("int8", losses[kind] <= MAX_INT8_LOSS, says, {"loss": losses})


def pytorch_agrees(metrics: Mapping[str, Any]) -> Check:
    """What training measured between PyTorch and ONNX when it exported; of what `soundscape optimize` made, what that measured."""
    chosen = metrics.get("optimized", {}).get("members", {})
    if chosen:
        said = ", ".join(f"{name} as {one['variant']} by {one['largest_difference']:.2g}" for name, one in chosen.items())
        numbers = {name: one["largest_difference"] for name, one in chosen.items()}
        holds = all(one["largest_difference"] <= one["bound"] for one in chosen.values())
        return Check("pytorch", holds, f"differs from PyTorch in probability: {said}", numbers)
    found = (metrics.get("int8") or {}).get("onnx_difference")
    if found is None:
        return Check("pytorch", True, "not asked: its models were not exported by our training", asked=False)
    says = f"ONNX and PyTorch differ by {found:.2g} in logits"
    return Check("pytorch", float(found) <= MAX_PYTORCH_DIFFERENCE, says, {"difference": found})


def triton_agrees(parity: Parity, precisions: Mapping[str, str]) -> Check:
    """Every member's answer by Triton and by its file; a release that Triton cannot serve is refused."""
    if parity.unasked:
        return Check("triton", True, f"not asked: {parity.unasked}", asked=False)
    if parity.failed:
        return Check("triton", False, f"Triton does not serve it: {parity.failed}")
    wrong = [name for name, found in parity.differences.items() if found > MAX_TRITON_DIFFERENCE[precisions[name]]]
    said = ", ".join(f"{name} by {found:.2g}" for name, found in parity.differences.items())
    says = f"Triton answers otherwise than the file: {said}" if wrong else f"Triton agrees: {said}"
    return Check("triton", not wrong, says, dict(parity.differences))


def fits(sizes: Mapping[str, int], given: Sequence[str]) -> Check:
    """Bytes of each member's file. Members in `given` come from others, as they are."""
    large = [name for name, size in sizes.items() if size > MAX_MEMBER_BYTES and name not in given]
    said = ", ".join(f"{name} {size / 1e6:.1f} MB{' (as given)' if name in given else ''}" for name, size in sizes.items())
    return Check("size", not large, f"{said}; at most {MAX_MEMBER_BYTES / 1e6:.0f} MB" if large else said, dict(sizes))


def quick_enough(own_ms: float, champion_ms: float | None, network_ms: float) -> Check:
    """Median processor time of one window on one thread, beside the champion's and that of an EfficientNet-B0."""
    limit = max(NETWORK_TIMES * network_ms, CHAMPION_TIMES * (champion_ms or 0.0))
    beside = f", the champion {champion_ms:.1f} ms" if champion_ms is not None else ""
    says = f"a window takes {own_ms:.1f} ms on one thread{beside}, an EfficientNet-B0 {network_ms:.1f} ms; the limit is {limit:.0f} ms"
    numbers = {"own_ms": own_ms, "champion_ms": champion_ms, "network_ms": network_ms, "limit_ms": limit}
    return Check("latency", own_ms <= limit, says, numbers)


def kept_apart(learnt: Sequence[str], known: bool) -> Check:
    """Nothing that judges for ever was learnt from."""
    if learnt:
        shown = ", ".join(learnt[:3]) + (", …" if len(learnt) > 3 else "")
        return Check("apart", False, f"it was trained on {len(learnt)} sounds of the evaluation set ({shown})", {"learnt": list(learnt)})
    return Check("apart", True, "it learnt nothing of the evaluation set" if known else "what it learnt from is not on this machine")


def silent_on_silence(named: Sequence[str], noise: Sequence[str]) -> Check:
    """Labels that were named on silence; those named on the noise of a sound card's last bit are only told.

    Scaled by its peak that noise is as loud as rain, and some insects sound like it.
    """
    told = f"; on the last bit's noise it names {', '.join(noise[:5])}" if noise else ""
    says = f"names {', '.join(named[:5])} on silence" if named else "silence names nothing"
    return Check("silence", not named, says + told, {"silence": list(named), "noise": list(noise)})


def steady(changed: Mapping[str, Sequence[str]], tried: int) -> Check:
    """Labels whose decision changed with the gain, by clip."""
    if not tried:
        return Check("gain", True, "no known clip to turn up and down")
    said = "; ".join(f"{', '.join(labels)} in {clip}" for clip, labels in list(changed.items())[:3])
    says = f"gain of 12 dB changes {said}" if changed else f"gain of 12 dB up or down changes no decision on {tried} clips"
    return Check("gain", not changed, says, {clip: list(labels) for clip, labels in changed.items()})


def knows(name: str, right: Mapping[str, bool], champion: str | None) -> Check:
    """Whether the known clips come out right: most of them where the champion does them right, one at least where there is none.

    `name` is `positive` or `negative`.
    """
    if not right:
        return Check(name, True, f"the set has no known {name}")
    wrong, what = [clip for clip, fine in right.items() if not fine], "named" if name == "positive" else "left unnamed"
    most = MAJORITY * len(right) if champion is not None else len(right)
    says = f"{len(right) - len(wrong)} of {len(right)} known {name}s are {what}" + (f"; not {wrong[0]}" if wrong else "")
    return Check(name, len(wrong) < most, says, {"wrong": wrong})
