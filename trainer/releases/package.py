"""Trained weights to a release: measured, exported, quantized, with thresholds; what serves is what was measured."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from torch import nn

from soundscape import confidence
from soundscape.errors import Invalid, Reason
from soundscape.features import FeatureSpec
from soundscape.release import LoadedRelease, Member, Release, file_digest, write_release
from trainer.data import store
from trainer.evaluation import evaluate, rivals
from trainer.evaluation.hear import windows_of
from trainer.evaluation.material import sets_of
from trainer.members.models import STUDENT, spec_of
from trainer.releases import quantize, thresholds
from trainer.training.learn import mixer_of, save_weights
from trainer.training.mixing import Recipe
from trainer.training.sound_mixing import SoundMixer

Bool = npt.NDArray[np.bool_]
Float32 = npt.NDArray[np.float32]
Answer = Callable[[list[store.Item]], Float32]
"""A model: logits or probabilities float32 (windows, labels) of every window of sounds, in their order; columns are those of the data."""

MAX_INT8_BYTES = 25_000_000
MAX_STUDENT_BYTES = 4_000_000
"""A phone's; a student whose float32 form is larger is served in int8 whatever that loses, which is said."""
MAX_MAP_LOSS = 0.01
"""What int8 may lose of the mAP on validation; beyond it float32 is served."""
WEIGHTS = "weights.pt"
"""What a later training begins with; nothing that is served reads it."""
MIXTURES = 1200
"""Composed windows of validation clips that the thresholds are chosen on."""


class Origin(NamedTuple):
    """What a release says of how it came to be."""

    name: str
    git_commit: str | None
    mlflow_run: str | None
    training: dict[str, Any]


def judges_of(prepared: store.Prepared, say: Callable[[str], None]) -> str:
    """The role whose clips judge a model: validation, or where no clip could be kept for that, said aloud, those that were learnt from."""
    if prepared.of(store.VALIDATION):
        return store.VALIDATION
    say("No clip could be kept to judge by: what follows was measured on the clips that were learnt from, and says little.")
    return store.TRAIN


def package(
    prepared: store.Prepared, net: nn.Module, model: str, folder: Path, origin: Origin, licence: str, say: Callable[[str], None]
) -> LoadedRelease:
    """Export, quantize, measure and write a network's release into `folder`. Raises Broken if ONNX answers otherwise than PyTorch."""
    folder.mkdir(parents=True, exist_ok=True)
    judged_on = judges_of(prepared, say)
    items = prepared.of(judged_on)
    spec = spec_of(model, prepared.spec)
    windows, truth = _windows(prepared, items, spec), prepared.truth(items)[0]
    fp32, int8 = folder / f"{model}-fp32.onnx", folder / f"{model}-int8.onnx"
    difference = quantize.export(net, fp32, spec, windows)
    say(f"ONNX answers as PyTorch does: logits differ by at most {difference:.1g}.")
    mixed, mixed_truth = _mixtures(prepared, judged_on, spec)
    calibration = np.concatenate([mixed[: quantize.CALIBRATION // 2], _some(windows, quantize.CALIBRATION // 2)])
    quantize.quantize(fp32, int8, calibration)
    before, after = (evaluate.score(truth, quantize.run(one, windows)) for one in (fp32, int8))
    loss = (before.mean_ap or 0.0) - (after.mean_ap or 0.0)
    fits = int8.stat().st_size <= MAX_INT8_BYTES and loss <= MAX_MAP_LOSS
    if model == STUDENT and not fits and fp32.stat().st_size > MAX_STUDENT_BYTES:
        fits = int8.stat().st_size <= MAX_STUDENT_BYTES
        say(f"float32 is {loss:.3f} better and too large for a phone.")
    say(
        f"int8: {int8.stat().st_size / 1e6:.1f} MB, {judged_on} mAP {after.mean_ap or 0:.3f}; "
        f"float32: {fp32.stat().st_size / 1e6:.1f} MB, {before.mean_ap or 0:.3f}. Served: {'int8' if fits else 'float32'}."
    )
    served = int8 if fits else fp32
    save_weights(net, prepared.labels, folder / WEIGHTS)
    member = Member(
        name=model,
        file=served.name,
        digest=file_digest(served),
        precision="int8" if fits else "fp32",
        feature_fingerprint=spec.fingerprint,
        labels=prepared.labels,
        activation="sigmoid",
        licence=licence,
    )
    release = released(
        prepared,
        origin,
        member,
        spec,
        judged_on,
        lambda own: quantize.run(served, _windows(prepared, own, spec)),
        Mixed(mixed_truth, quantize.run(served, mixed)),
    )
    told = {
        "bytes": int8.stat().st_size, "judged_on": judged_on, "map": after.mean_ap, "fp32_bytes": fp32.stat().st_size,
        "fp32_map": before.mean_ap, "served": "int8" if fits else "fp32", "onnx_difference": difference,
    }  # fmt: skip
    return write_release(folder, release.model_copy(update={"metrics": {**release.metrics, "int8": told}}))


class Mixed(NamedTuple):
    """Composed windows of clips that judge, bool (windows, labels), and what a model says of them, logits float32 (windows, labels)."""

    truth: Bool
    logits: Float32


def released(
    prepared: store.Prepared, origin: Origin, member: Member, spec: FeatureSpec, judged_on: str, answer: Answer, mixed: Mixed
) -> Release:
    """The release of one member that hears `spec`: measured by what it answers to the clips of a role and to labelled soundscapes, with
    thresholds for the data's labels from composed windows."""
    common, own = thresholds.choose(mixed.truth, quantize.sigmoid(mixed.logits))
    return Release(
        name=origin.name,
        labels=prepared.species,
        features={spec.fingerprint: spec},
        members=(member,),
        threshold=common,
        thresholds={label: float(at) for label, at in zip(prepared.labels, own, strict=True) if at != common},
        metrics={**judged(prepared, judged_on, lambda items: quantize.sigmoid(answer(items)), own), "training": origin.training},
        evaluation_sets=sets_of(prepared.source),
        data_digest=prepared.digest,
        git_commit=origin.git_commit,
        mlflow_run=origin.mlflow_run,
        created_at=datetime.now(UTC).isoformat(timespec="seconds"),
    )


def judged(prepared: store.Prepared, judged_on: str, answer: Answer, own: npt.NDArray[np.floating[Any]]) -> dict[str, Any]:
    """What is measured of a model by the clips of a role, window by window and clip by clip, and by labelled soundscapes.

    `answer` gives probabilities; `own` are the labels' thresholds (labels,). A clip's score is the mean of its windows'.
    """
    items = prepared.of(judged_on)
    truth, recordings = prepared.truth(items)
    answers = answer(items)
    ends = np.cumsum([len(prepared.windows(item)) for item in items])[:-1]
    clips = [np.stack([part.mean(axis=0) for part in np.split(one, ends)]) for one in (truth, answers)]
    metrics: dict[str, Any] = {
        judged_on: measured(prepared, truth, answers, recordings),
        f"{judged_on}_clips": measured(prepared, clips[0] > 0, clips[1], np.array([item.recording for item in items])),
        confidence.RECORD: confidence.record(answers, own, judged_on),
        "label_windows": dict(Counter(label for item in prepared.of(store.TRAIN) for label in item.labels[:1])),
    }
    if prepared.of(store.JUDGE):
        metrics["soundscapes"] = soundscapes(prepared, answer)
    return metrics


def soundscapes(prepared: store.Prepared, answer: Answer) -> dict[str, Any]:
    """How well a model hears the labelled soundscapes, row by row, beside those that hear almost nothing."""
    items = prepared.of(store.JUDGE)
    windows, truth, stems, kept = rows_of(prepared, items)
    scores = {
        "model": answer(items)[kept],
        "constant": rivals.constant(truth),
        "band_energy": rivals.band_energy(prepared, windows),
        "level_and_bandwidth": rivals.level_and_bandwidth(prepared, items)[kept],
    }
    found = measured(prepared, truth, scores.pop("model"), stems)
    return {**found, "rivals": {name: asdict(evaluate.score(truth, one)) for name, one in scores.items()}}


def rows_of(prepared: store.Prepared, items: list[store.Item]) -> tuple[Float32, Bool, npt.NDArray[np.str_], npt.NDArray[np.intp]]:
    """Windows of soundscapes that have a row of truth, their truth (rows, labels), their stems, and which windows they are."""
    rows, column = {row.row_id: row.labels for row in prepared.rows}, {label: n for n, label in enumerate(prepared.labels)}
    windows, truth, stems, kept, seen = [], [], [], [], 0
    for item in items:
        own = prepared.windows(item)
        for n, window in enumerate(own):
            labels = rows.get(f"{item.recording}_{int((n + 1) * prepared.spec.window_s)}")
            if labels is None:
                continue
            row = np.zeros(len(column), bool)
            row[[column[label] for label in labels if label in column]] = True
            windows.append(window)
            truth.append(row)
            stems.append(item.recording)
            kept.append(seen + n)
        seen += len(own)
    if not windows:
        what = f"No row of {prepared.source.name}'s soundscape_labels.csv names a window of a soundscape"
        raise Invalid(Reason.BAD_REQUEST, f"{what}; write STEM_ENDSECOND, every 5 s from 5.")
    return np.stack(windows), np.stack(truth), np.array(stems), np.array(kept, np.intp)


def measured(prepared: store.Prepared, truth: Bool, scores: Float32, recordings: npt.NDArray[np.str_]) -> dict[str, Any]:
    """Macro scores with their intervals over recordings, and by taxon; bool and float32 (rows, labels)."""
    taxa: dict[str, list[int]] = {}
    for n, one in enumerate(prepared.species):
        taxa.setdefault(one.taxon, []).append(n)
    by_taxon = evaluate.score_by({taxon: np.array(columns) for taxon, columns in taxa.items()}, truth, scores)
    return {**asdict(evaluate.score(truth, scores, recordings)), "by_taxon": {taxon: asdict(one) for taxon, one in by_taxon.items()}}


def _windows(prepared: store.Prepared, items: list[store.Item], spec: FeatureSpec) -> Float32:
    return np.concatenate([windows_of(prepared, item, spec) for item in items])


def _mixtures(prepared: store.Prepared, role: str, spec: FeatureSpec) -> tuple[Float32, Bool]:
    rng, recipe = np.random.default_rng(11), Recipe(masks=0)
    if spec != prepared.spec:
        windows, truth, _ = next(SoundMixer(prepared, role, rng, recipe).batches(MIXTURES, spec))
    else:
        windows, truth, _ = next(mixer_of(prepared, role, rng, recipe).batches(MIXTURES))
    return windows, truth > 0


def _some(windows: Float32, n: int) -> Float32:
    return windows[np.random.default_rng(3).permutation(len(windows))[:n]]
