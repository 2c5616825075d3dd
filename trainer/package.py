"""Trained weights to a release: measured, exported, quantized, with thresholds; what serves is what was measured."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import nn

from soundscape import confidence
from soundscape.release import LoadedRelease, Member, Release, file_digest, write_release
from trainer import evaluate, quantize, rivals, store, thresholds
from trainer.evaluation.material import sets_of
from trainer.learn import mixer_of, save_weights
from trainer.mixing import Recipe

Bool = npt.NDArray[np.bool_]
Float32 = npt.NDArray[np.float32]

MAX_INT8_BYTES = 25_000_000
MAX_MAP_LOSS = 0.01
"""What int8 may lose of the mAP on validation; beyond it float32 is served."""
WEIGHTS = "weights.pt"
"""What a later training begins with; nothing that is served reads it."""
MIXTURES = 1200
"""Composed windows of validation clips that the thresholds are chosen on."""


def package(
    prepared: store.Prepared,
    net: nn.Module,
    model: str,
    folder: Path,
    name: str,
    say: Callable[[str], None],
    git_commit: str | None,
    mlflow_run: str | None,
    licence: str,
    training: dict[str, Any],
) -> LoadedRelease:
    """Export, quantize, measure and write a release into `folder`. Raises Broken if ONNX answers otherwise than PyTorch."""
    folder.mkdir(parents=True, exist_ok=True)
    judged_on = store.VALIDATION if prepared.of(store.VALIDATION) else store.TRAIN
    if judged_on == store.TRAIN:
        say("No clip could be kept to judge by: what follows was measured on the clips that were learnt from, and says little.")
    items = prepared.of(judged_on)
    windows = np.concatenate([prepared.windows(item) for item in items])
    truth, recordings = prepared.truth(items)
    fp32, int8 = folder / f"{model}-fp32.onnx", folder / f"{model}-int8.onnx"
    difference = quantize.export(net, fp32, prepared.spec, windows)
    say(f"ONNX answers as PyTorch does: logits differ by at most {difference:.1g}.")
    mixed, mixed_truth = _mixtures(prepared, judged_on)
    whole = quantize.run(fp32, windows)
    calibration = np.concatenate([mixed[: quantize.CALIBRATION // 2], _some(windows, quantize.CALIBRATION // 2)])
    quantize.quantize(fp32, int8, calibration)
    small = quantize.run(int8, windows)
    before, after = evaluate.score(truth, whole), evaluate.score(truth, small)
    loss = (before.mean_ap or 0.0) - (after.mean_ap or 0.0)
    fits = int8.stat().st_size <= MAX_INT8_BYTES and loss <= MAX_MAP_LOSS
    say(
        f"int8: {int8.stat().st_size / 1e6:.1f} MB, {judged_on} mAP {after.mean_ap or 0:.3f}; "
        f"float32: {fp32.stat().st_size / 1e6:.1f} MB, {before.mean_ap or 0:.3f}. Served: {'int8' if fits else 'float32'}."
    )
    served = int8 if fits else fp32
    save_weights(net, prepared.labels, folder / WEIGHTS)
    common, own = thresholds.choose(mixed_truth, quantize.sigmoid(quantize.run(served, mixed)))
    metrics: dict[str, Any] = {
        judged_on: measured(prepared, truth, quantize.run(served, windows), recordings),
        "int8": {
            "bytes": int8.stat().st_size, "judged_on": judged_on, "map": after.mean_ap, "fp32_bytes": fp32.stat().st_size,
            "fp32_map": before.mean_ap, "served": "int8" if fits else "fp32", "onnx_difference": difference,
        },
        "training": training,
        confidence.RECORD: confidence.record(quantize.sigmoid(small if fits else whole), own, judged_on),
        "label_windows": dict(Counter(label for item in prepared.of(store.TRAIN) for label in item.labels[:1])),
    }  # fmt: skip
    if prepared.of(store.JUDGE):
        metrics["soundscapes"] = soundscapes(prepared, lambda own: quantize.run(served, np.concatenate([*map(prepared.windows, own)])))
    member = Member(
        name=model,
        file=served.name,
        digest=file_digest(served),
        precision="int8" if fits else "fp32",
        feature_fingerprint=prepared.spec.fingerprint,
        labels=prepared.labels,
        activation="sigmoid",
        licence=licence,
    )
    return write_release(
        folder,
        Release(
            name=name,
            labels=prepared.species,
            features={prepared.spec.fingerprint: prepared.spec},
            members=(member,),
            threshold=common,
            thresholds={label: float(at) for label, at in zip(prepared.labels, own, strict=True) if at != common},
            metrics=metrics,
            evaluation_sets=sets_of(prepared.source),
            data_digest=prepared.digest,
            git_commit=git_commit,
            mlflow_run=mlflow_run,
            created_at=datetime.now(UTC).isoformat(timespec="seconds"),
        ),
    )


def soundscapes(prepared: store.Prepared, answer: Callable[[list[store.Item]], Float32]) -> dict[str, Any]:
    """How well a model hears the labelled soundscapes, row by row, beside those that hear almost nothing.

    `answer`: logits float32 (windows, labels) of every window of sounds, in their order.
    """
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
    return np.stack(windows), np.stack(truth), np.array(stems), np.array(kept, np.intp)


def measured(prepared: store.Prepared, truth: Bool, scores: Float32, recordings: npt.NDArray[np.str_]) -> dict[str, Any]:
    """Macro scores with their intervals over recordings, and by taxon; bool and float32 (rows, labels)."""
    taxa: dict[str, list[int]] = {}
    for n, one in enumerate(prepared.species):
        taxa.setdefault(one.taxon, []).append(n)
    by_taxon = evaluate.score_by({taxon: np.array(columns) for taxon, columns in taxa.items()}, truth, scores)
    return {**asdict(evaluate.score(truth, scores, recordings)), "by_taxon": {taxon: asdict(one) for taxon, one in by_taxon.items()}}


def _mixtures(prepared: store.Prepared, role: str) -> tuple[Float32, Bool]:
    mixer = mixer_of(prepared, role, np.random.default_rng(11), Recipe(masks=0))
    drawn = [mixer.window() for _ in range(MIXTURES)]
    return np.stack([one[0] for one in drawn]), np.stack([one[1] for one in drawn]) > 0


def _some(windows: Float32, n: int) -> Float32:
    return windows[np.random.default_rng(3).permutation(len(windows))[:n]]
