"""A head of our own on a pretrained model's embeddings: a linear layer for a site's species.

The pretrained model stays as it is; only the last layer is learnt, on the embeddings of the training clips and of windows composed from
them. So a few clips a species go a long way, and `soundscape retrain` can go on from a champion that is BirdNET.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from soundscape.release import WEEKS, LoadedRelease, Member, Release, file_digest, write_release
from soundscape.taxonomy import Species
from trainer.data import store
from trainer.evaluation import evaluate
from trainer.members.birdnet import PRIOR
from trainer.members.birdnet_species import SPEECH
from trainer.members.body import Body
from trainer.members.embed import Scenes, embeddings, scenes
from trainer.members.graft import Head
from trainer.members.models import BIRDNET_HEAD, HEADS
from trainer.progress import Progress
from trainer.releases.package import Mixed, Origin, judges_of, released
from trainer.training.mixing import RECIPE, Recipe, mark

Float32 = npt.NDArray[np.float32]

STARTS_FROM = {"birdnet": BIRDNET_HEAD} | {name: name for name in HEADS}
"""Members that `soundscape retrain` goes on from with a head, and with which."""
PENALTIES = (0.01, 0.03, 0.1, 0.3)
"""Weights of the squared norm that are tried; the one with the best mAP on composed validation windows is kept."""
LEARNING, JUDGING = 2400, 600
"""Windows composed of training clips, and of those that judge; of more the minutes are heard no better (docs/decisions/0008)."""
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
    body: Body,
    folder: Path,
    origin: Origin,
    say: Callable[[str], None],
    progress: Progress,
    champion: LoadedRelease | None,
    recipe: Recipe = RECIPE,
) -> LoadedRelease:
    """Hear, fit, measure, and write a release into `folder`.

    `recipe` composes the windows that it learns from; those that judge are composed alike for all. `champion` is the release that it
    goes on from: what that one knows and the data does not is kept.
    """
    say(body.attribution)
    judged_on = judges_of(prepared, say)
    sounds = [item for item in prepared.items if item.role != store.BED]
    heard = embeddings(prepared, body, sounds, partial(progress, f"sounds heard for {body.name}"))
    learning, judging = (
        scenes(prepared, body, role, windows, how, partial(progress, f"composed windows ({what}) heard for {body.name}, in batches"))
        for role, windows, how, what in ((store.TRAIN, LEARNING, recipe, "to learn from"), (judged_on, JUDGING, RECIPE, "to judge by"))
    )
    rows = _rows(prepared, heard, learning, recipe)
    truth = judging.truth > 0
    tried = {penalty: fit(*rows, penalty) for penalty in PENALTIES}
    found = {penalty: evaluate.score(truth, answer(head, judging.heard)).mean_ap or 0.0 for penalty, head in tried.items()}
    penalty = max(found, key=lambda one: found[one])
    head = tried[penalty]
    say(f"Penalty {penalty:g} of {', '.join(f'{one:g} (mAP {value:.3f})' for one, value in found.items())}.")
    rest = rest_of(body, champion, prepared.species)
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"{body.name}{body.suffix}"
    file.write_bytes(body.served(head.beside(rest.head)))
    member = Member(
        name=body.name,
        file=file.name,
        digest=file_digest(file),
        runtime=body.runtime,
        feature_fingerprint=body.spec.fingerprint,
        labels=(*prepared.labels, *(one.label for one in rest.species)),
        events=body.events,
        licence=body.licence,
        noncommercial=body.noncommercial,
    )
    origin = origin._replace(training={**origin.training, "penalty": penalty, "windows": len(rows[0])})
    release = released(
        prepared,
        origin,
        member,
        body.spec,
        judged_on,
        lambda items: answer(head, np.concatenate([heard[item.name] for item in items])),
        Mixed(truth, answer(head, judging.heard)),
    )
    return write_release(folder, _with_rest(folder, release, rest))


def _rows(prepared: store.Prepared, heard: dict[str, Float32], composed: Scenes, recipe: Recipe) -> tuple[Float32, Float32, Float32]:
    """Of every window of the training clips, and of composed ones: the mean of the chunks' embeddings, truth, and what is known, float32.

    A secondary label is neither true nor false: nobody says in which window it calls. Clips and composed windows weigh the same in all.
    """
    column = {label: n for n, label in enumerate(prepared.labels)}
    rows, truth, weight = [], [], []
    for item in prepared.of(store.TRAIN):
        own = np.stack([one.mean(axis=0) for n, one in enumerate(heard[item.name]) if n not in item.voices])
        said, known = np.zeros(len(column), np.float32), np.full(len(column), np.float32(item.weight))
        mark([column[label] for label in item.labels], said, known, recipe)
        known[column[item.labels[0]]] = item.weight
        rows.append(own)
        truth.append(np.repeat(said[None], len(own), axis=0))
        weight.append(np.repeat(known[None], len(own), axis=0))
    windows = sum(map(len, rows))
    return (
        np.concatenate([*rows, composed.heard.mean(axis=1)]),
        np.concatenate([*truth, composed.truth]),
        np.concatenate([*weight, composed.weight * np.float32(windows / len(composed.weight))]),
    )


class Rest(NamedTuple):
    """What a head's file answers beside the species of its data, and how it is judged: rows of the last layer, species by species."""

    species: tuple[Species, ...]
    head: Head
    thresholds: dict[str, float]
    """By label, where one of its own is known."""
    prior: Float32 | None
    """float32 (WEEKS, species), or None."""


def rest_of(body: Body, champion: LoadedRelease | None, known: Sequence[Species]) -> Rest:
    """All that a champion knows beyond `known` (by label and by scientific name); without one, what the body keeps of its own.

    A release that hears voices may be sampled from; and what BirdNET can name, a site keeps until somebody decides otherwise.
    """
    taken = {one.label for one in known} | {one.scientific.lower() for one in known}
    if champion is None:
        species, last = body.own()
    else:
        member, by_label = champion.release.members[0], {one.label: one for one in champion.release.labels}
        species, last = [by_label[label] for label in member.labels], body.head_of((champion.folder / member.file).read_bytes())
    kept = [n for n, one in enumerate(species) if not {one.label, one.scientific.lower()} & taken]
    rows = tuple(species[n] for n in kept)
    columns = [champion.label_names.index(one.label) for one in rows] if champion else []
    thresholds = {one.label: float(champion.thresholds[n]) for one, n in zip(rows, columns, strict=True)} if champion else {}
    prior = champion.prior[:, columns] if champion and champion.prior is not None else None
    return Rest(rows, Head(last.weight[kept], last.bias[kept]), thresholds, prior)


def _with_rest(folder: Path, release: Release, rest: Rest) -> Release:
    """The release with the labels, thresholds and prior of the rest; place and week lower no label of the data, which has been heard."""
    labels = tuple(sorted((*release.labels, *rest.species), key=lambda one: one.label))
    speech = tuple(one.label for one in labels if one.label in SPEECH)
    if rest.prior is not None:
        column = {one.label: n for n, one in enumerate(labels)}
        prior = np.ones((WEEKS, len(labels)), np.float32)
        prior[:, [column[one.label] for one in rest.species]] = rest.prior
        np.save(folder / PRIOR, prior)
    return release.model_copy(
        update={
            "labels": labels,
            "thresholds": {**release.thresholds, **{label: at for label, at in rest.thresholds.items() if at != release.threshold}},
            "sound_events": {"speech": speech} if speech else {},
            "prior_file": PRIOR if rest.prior is not None else None,
        }
    )
