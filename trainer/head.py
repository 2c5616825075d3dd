"""A head of our own on BirdNET's embeddings: a linear layer for a site's species, in the place of BirdNET's.

BirdNET stays as it is; only the last layer is learnt, on the embeddings of the training clips. So a few clips a species go a long way, and
`soundscape retrain` can go on from a champion that is BirdNET.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from soundscape import confidence
from soundscape.release import LoadedRelease, Member, Release, file_digest, write_release
from soundscape.taxonomy import Species
from trainer import evaluate, store, thresholds
from trainer.birdnet import ATTRIBUTION, FEATURES, LICENCE, MODEL, birdnet_folder
from trainer.birdnet_species import SPEECH, read_species
from trainer.embed import embeddings
from trainer.evaluation.material import sets_of
from trainer.graft import Head, head_of, with_head
from trainer.models import HEAD
from trainer.package import measured, soundscapes
from trainer.quantize import sigmoid

Float32 = npt.NDArray[np.float32]

STARTS_FROM = ("birdnet", HEAD)
"""Members that `soundscape retrain` goes on from with a head."""
PENALTIES = (0.01, 0.03, 0.1, 0.3)
"""Weights of the squared norm that are tried; the one with the best mAP on validation is kept."""
STEPS = 150
"""Of L-BFGS, at most."""
SILENT = -4.0
"""Bias to begin with: most species are silent most of the time."""


def fit(rows: Float32, truth: Float32, weight: Float32, penalty: float) -> Head:
    """Logistic regression, one label at a time in effect, on standardized rows; the standardization is folded into the head.

    `rows` float32 (windows, embedding), `truth` and `weight` float32 (windows, labels); where weight is 0 nothing is known.
    """
    import torch

    mean, spread = rows.mean(axis=0), rows.std(axis=0) + np.float32(1e-3)
    x, y, w = (torch.from_numpy(np.ascontiguousarray(one)) for one in ((rows - mean) / spread, truth, weight))
    labels = truth.shape[1]
    matrix = torch.zeros(labels, rows.shape[1], requires_grad=True)
    bias = torch.full((labels,), SILENT, requires_grad=True)
    optimizer = torch.optim.LBFGS([matrix, bias], max_iter=STEPS, line_search_fn="strong_wolfe")

    def closure() -> Any:
        optimizer.zero_grad()
        each = torch.nn.functional.binary_cross_entropy_with_logits(x @ matrix.T + bias, y, reduction="none")
        loss = (each * w).sum() / w.sum() * labels + penalty * (matrix**2).sum()
        loss.backward()
        return loss

    optimizer.step(closure)  # type: ignore[no-untyped-call]
    own = matrix.detach().numpy() / spread
    return Head(own.astype(np.float32), (bias.detach().numpy() - own @ mean).astype(np.float32))


def answer(head: Head, heard: Float32) -> Float32:
    """Logits float32 (windows, labels) of embeddings (windows, chunks, embedding), as they are served: the highest of the chunks."""
    logits: Float32 = (heard @ head.weight.T + head.bias).max(axis=1).astype(np.float32)
    return logits


def make_head(
    prepared: store.Prepared,
    folder: Path,
    name: str,
    say: Callable[[str], None],
    progress: Callable[[int, int], None],
    git_commit: str | None,
    mlflow_run: str | None,
    training: dict[str, Any],
) -> LoadedRelease:
    """Hear, fit, measure, and write a release into `folder`. Raises Invalid if BirdNET is not here."""
    birdnet = birdnet_folder()
    say(ATTRIBUTION)
    heard = embeddings(prepared, [item for item in prepared.items if item.role != store.BED], progress)
    judged_on = store.VALIDATION if prepared.of(store.VALIDATION) else store.TRAIN
    judges = prepared.of(judged_on)
    truth, recordings = prepared.truth(judges)

    def logits(head: Head, items: list[store.Item]) -> Float32:
        return answer(head, np.concatenate([heard[item.name] for item in items]))

    rows = _rows(prepared, heard)
    tried = {penalty: fit(*rows, penalty) for penalty in PENALTIES}
    found = {penalty: evaluate.score(truth, logits(head, judges)).mean_ap or 0.0 for penalty, head in tried.items()}
    penalty = max(found, key=lambda one: found[one])
    head = tried[penalty]
    say(f"Penalty {penalty:g} of {', '.join(f'{one:g} (mAP {value:.3f})' for one, value in found.items())}.")
    folder.mkdir(parents=True, exist_ok=True)
    species, whole = _with_speech(prepared.species, head, birdnet)
    file = folder / f"{HEAD}.tflite"
    file.write_bytes(with_head((birdnet / MODEL).read_bytes(), whole))
    common, own = thresholds.choose(truth, sigmoid(logits(head, judges)))
    metrics: dict[str, Any] = {
        judged_on: measured(prepared, truth, logits(head, judges), recordings),
        "training": {**training, "penalty": penalty, "windows": len(rows[0])},
        confidence.RECORD: confidence.record(sigmoid(logits(head, judges)), own, judged_on),
        "label_windows": dict(Counter(item.labels[0] for item in prepared.of(store.TRAIN))),
    }
    if prepared.of(store.JUDGE):
        metrics["soundscapes"] = soundscapes(prepared, lambda items: logits(head, items))
    member = Member(
        name=HEAD,
        file=file.name,
        digest=file_digest(file),
        runtime="litert",
        feature_fingerprint=FEATURES.fingerprint,
        labels=tuple(one.label for one in species),
        licence=LICENCE,
        noncommercial=True,
    )
    release = Release(
        name=name,
        labels=tuple(sorted(species, key=lambda one: one.label)),
        features={FEATURES.fingerprint: FEATURES},
        members=(member,),
        threshold=common,
        thresholds={label: float(at) for label, at in zip(prepared.labels, own, strict=True) if at != common},
        sound_events={"speech": SPEECH},
        metrics=metrics,
        evaluation_sets=sets_of(prepared.source),
        data_digest=prepared.digest,
        git_commit=git_commit,
        mlflow_run=mlflow_run,
        created_at=datetime.now(UTC).isoformat(timespec="seconds"),
    )
    return write_release(folder, release)


def _rows(prepared: store.Prepared, heard: dict[str, Float32]) -> tuple[Float32, Float32, Float32]:
    """Of every window of the training clips: the mean of its chunks' embeddings, truth, and what is known, float32.

    A secondary label is neither true nor false: nobody says in which window it calls.
    """
    column = {label: n for n, label in enumerate(prepared.labels)}
    rows, truth, weight = [], [], []
    for item in prepared.of(store.TRAIN):
        own = heard[item.name].mean(axis=1)
        said, known = np.zeros(len(column), np.float32), np.full(len(column), np.float32(item.weight))
        known[[column[label] for label in item.labels[1:]]] = 0.0
        said[column[item.labels[0]]], known[column[item.labels[0]]] = 1.0, item.weight
        rows.append(own)
        truth.append(np.repeat(said[None], len(own), axis=0))
        weight.append(np.repeat(known[None], len(own), axis=0))
    return np.concatenate(rows), np.concatenate(truth), np.concatenate(weight)


def _with_speech(species: tuple[Species, ...], head: Head, birdnet: Path) -> tuple[list[Species], Head]:
    """The species and BirdNET's own labels of human voice: a release that hears them may sample for labelers."""
    theirs, last = read_species(birdnet), head_of((birdnet / MODEL).read_bytes())
    known = {one.label for one in species}
    added = [n for n, one in enumerate(theirs) if one.label in SPEECH and one.label not in known]
    whole = Head(np.concatenate([head.weight, last.weight[added]]), np.concatenate([head.bias, last.bias[added]]))
    return [*species, *(theirs[n] for n in added)], whole
