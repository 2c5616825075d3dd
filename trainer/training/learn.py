"""The training loop: composed windows in, averaged weights out, within a given time; stops and goes on at any epoch."""

from __future__ import annotations

import math
import os
import pickle
import random
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, IterableDataset

from soundscape.errors import Invalid, Reason
from trainer.data import store
from trainer.evaluation import evaluate
from trainer.evaluation.hear import windows_of
from trainer.members import adapt
from trainer.members.models import build, spec_of
from trainer.training import taught
from trainer.training.mixing import Bed, Mixer, Recipe, Source
from trainer.training.plan import Plan
from trainer.training.pseudo import known
from trainer.training.sound_mixing import SoundMixer
from trainer.training.step import Step

Float32 = npt.NDArray[np.float32]
Batch = tuple[Float32, Float32, Float32]

EPOCHS = 20
"""Parts of the time given: each ends with a look at the validation clips and a checkpoint."""
LOOKED_AT = 400
"""Validation windows looked at after an epoch; the evaluation at the end takes all."""


class Stream(IterableDataset[tuple[Tensor, Tensor, Tensor]]):
    """Composed batches without end, made in a process of their own: windows float16, truth and weight float32."""

    def __init__(self, folder: Path, plan: Plan, seed: int) -> None:
        self._folder, self._plan, self._seed = folder, plan, seed

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        worker = torch.utils.data.get_worker_info()
        rng = np.random.default_rng([self._seed, worker.id if worker else 0])
        prepared = store.load(self._folder)
        for window, truth, weight in lessons(prepared, self._plan, rng):
            yield torch.from_numpy(window.astype(np.float16)), torch.from_numpy(truth), torch.from_numpy(weight)


def lessons(prepared: store.Prepared, plan: Plan, rng: np.random.Generator) -> Iterator[Batch]:
    """Composed batches without end, as the network hears them, float32: windows (batch, *shape), truth and weight (batch, labels)."""
    if plan.taught_by:
        return taught.batches(prepared, plan.taught_by, plan.batch, rng)
    spec = spec_of(plan.model, prepared.spec)
    if spec != prepared.spec:
        return SoundMixer(prepared, store.TRAIN, rng, plan.recipe).batches(plan.batch, spec)
    return mixer_of(prepared, store.TRAIN, rng, plan.recipe).batches(plan.batch)


def mixer_of(prepared: store.Prepared, role: str, rng: np.random.Generator, recipe: Recipe) -> Mixer:
    """A mixer of a role's clips, over the unlabelled soundscapes where there are any."""
    column = {label: n for n, label in enumerate(prepared.labels)}
    clips = [Source(prepared.taught(item), tuple(column[label] for label in item.labels), item.weight) for item in prepared.of(role)]
    told = known(prepared, recipe.pseudo)
    beds = [Bed(prepared.taught(item), told.get(item.name)) for item in prepared.of(store.BED)]
    return Mixer(clips, beds, len(column), rng, recipe, prepared.spec)


class Learner:
    """One training run; `state` and `restore` carry it over a kill."""

    def __init__(
        self, folder: Path, plan: Plan, composers: int | None = None, weights: Path | None = None, device: str = "cpu"
    ) -> None:
        """`composers` is the number of processes that compose windows: all cores but one, at most 4; 0 composes in this one.

        `weights` is what `save_weights` wrote, to begin with. Raises Invalid if they belong to another network.
        """
        random.seed(plan.seed)
        torch.manual_seed(plan.seed)
        self.prepared, self.plan = store.load(folder), plan
        self._composers = max(1, min(4, len(os.sched_getaffinity(0)) - 1)) if composers is None else composers
        net = build(plan.model, len(self.prepared.labels))
        if weights is not None:
            begin_with(net, weights, self.prepared.labels)
        self._step = Step(adapt.begun(net, plan.adapt), plan, device)
        self.net, self.average = self._step.net, self._step.average
        self.elapsed, self.steps, self.epoch = 0.0, 0, 0
        self._begun = False
        self._looked_at: Float32 | None = None
        self._batches: Iterator[tuple[Tensor, Tensor, Tensor]] | None = None

    @property
    def budget(self) -> float:
        """Seconds of training in all."""
        return self.plan.minutes * 60

    @property
    def done(self) -> bool:
        """Whether the time is spent."""
        return self.elapsed >= self.budget

    def finished(self) -> nn.Module:
        """The averaged weights as an ordinary network; adapters become a part of it, so nothing can be learnt afterwards."""
        return adapt.merged(self.average.module) if self.plan.adapt == adapt.LORA else self.average.module

    def state(self) -> dict[str, Any]:
        """Everything that is needed to go on."""
        return {
            "net": self.net.state_dict(),
            "average": self.average.state_dict(),
            "optimizer": self._step.optimizer.state_dict(),
            "progress": (self.elapsed, self.steps, self.epoch),
            "data": self.prepared.digest,
            "plan": self.plan.plain(),
        }

    def restore(self, state: dict[str, Any]) -> bool:
        """Go on from a state; False, and nothing is changed, if it belongs to other data, another plan or another network."""
        if state["data"] != self.prepared.digest or state["plan"] != self.plan.plain():
            return False
        shapes, own = ({name: value.shape for name, value in one.items()} for one in (state["net"], self.net.state_dict()))
        if shapes != own:  # an earlier version of this program built it otherwise
            return False
        self.net.load_state_dict(state["net"])
        self.average.load_state_dict(state["average"])
        self._step.optimizer.load_state_dict(state["optimizer"])
        self.elapsed, self.steps, self.epoch = state["progress"]
        return True

    def run_epoch(self) -> dict[str, float]:
        """Train for a part of the time, then look at the validation clips; the epoch's metrics."""
        batches, end = self._stream(), min(self.budget, (self.epoch + 1) * self.budget / EPOCHS)
        first: list[tuple[Tensor, Tensor, Tensor]] = [next(batches)] if not self._begun else []  # its making is not training
        self._begun = True
        losses: list[float] = []
        windows, began = 0, time.monotonic()
        self.net.train()
        while self.elapsed < end or not losses:
            window, truth, weight = first.pop() if first else next(batches)
            losses.append(self._step.take(window.float(), truth, weight, self._rate()))
            windows += len(window)
            now = time.monotonic()
            self.elapsed, began = self.elapsed + now - began, now
            self.steps += 1
        taken = windows / max(1e-9, self.budget / EPOCHS)
        self.epoch += 1
        found = self._look()
        return {
            "epoch": self.epoch, "step": self.steps, "elapsed_s": round(self.elapsed, 1), "loss": float(np.mean(losses)),
            "windows_per_s": taken, "rate": self._rate(), **found,
        }  # fmt: skip

    def _stream(self) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        if self._batches is None:
            seed = int(np.random.default_rng([self.plan.seed, self.steps]).integers(2**31))  # after a kill not the same again
            loader = DataLoader(
                Stream(self.prepared.folder, self.plan, seed),
                batch_size=None,
                num_workers=self._composers,
                prefetch_factor=4 if self._composers else None,
                multiprocessing_context="spawn" if self._composers else None,
                worker_init_fn=_one_thread,
            )
            self._batches = iter(loader)
        return self._batches

    def close(self) -> None:
        """End the processes that compose."""
        self._batches, self._begun = None, False

    def _rate(self) -> float:
        done = min(1.0, self.elapsed / self.budget)
        return self.plan.rate * min(1.0, done / 0.05 + 0.02) * (0.5 + 0.5 * math.cos(math.pi * done)) + 1e-5

    def _look(self) -> dict[str, float]:
        items = self.prepared.of(store.VALIDATION)
        if not items:
            return {}
        chosen = np.random.default_rng(0).permutation(len(items))[:LOOKED_AT]
        some = [items[n] for n in sorted(chosen)]
        if self._looked_at is None:
            spec = spec_of(self.plan.model, self.prepared.spec)
            self._looked_at = np.concatenate([windows_of(self.prepared, item, spec)[:2] for item in some])[:LOOKED_AT]
        truth, _ = self.prepared.truth(some)
        keep = np.concatenate([np.arange(len(self.prepared.windows(item))) < 2 for item in some])
        found = evaluate.score(truth[keep][:LOOKED_AT], predict(self.average, self._looked_at), None)
        return {} if found.auc is None or found.mean_ap is None else {"validation_auc": found.auc, "validation_map": found.mean_ap}


def save_weights(net: nn.Module, labels: Sequence[str], path: Path) -> None:
    """Keep a network's weights with the labels of its outputs, for a training that begins with them."""
    torch.save({"net": net.state_dict(), "labels": list(labels)}, path)


def begin_with(net: nn.Module, path: Path, labels: Sequence[str]) -> None:
    """Load kept weights; of the last layer the rows of the labels that both know. Raises Invalid if they belong to another network."""
    other = Invalid(Reason.BAD_REQUEST, f"{path} holds the weights of another network; train with the model that they were made by.")
    try:
        kept = torch.load(path, weights_only=True)
    except (RuntimeError, EOFError, pickle.UnpicklingError) as error:
        raise Invalid(Reason.BAD_REQUEST, f"{path} is no file of weights, or is cut off; put the right one there.") from error
    if not isinstance(kept, dict) or kept.keys() != {"net", "labels"}:
        raise other
    wanted, rows = net.state_dict(), [(n, kept["labels"].index(label)) for n, label in enumerate(labels) if label in kept["labels"]]
    last = list(wanted)[-2:]  # every network here ends in a linear layer, weight and bias, with a row a label
    fits = wanted.keys() == kept["net"].keys() and all(kept["net"][name].shape[1:] == wanted[name].shape[1:] for name in wanted)
    if not fits or any(kept["net"][name].shape != wanted[name].shape for name in list(wanted)[:-2]):
        raise other
    for name, value in kept["net"].items():
        if name in last:
            for mine, theirs in rows:
                wanted[name][mine] = value[theirs]
        else:
            wanted[name] = value
    net.load_state_dict(wanted)


def predict(net: nn.Module, windows: np.ndarray[Any, np.dtype[np.float32]], batch: int = 32) -> np.ndarray[Any, np.dtype[np.float32]]:
    """Logits (windows, labels) of a network, float32, in evaluation mode and full precision."""
    net.eval()
    device = next(net.parameters()).device
    with torch.inference_mode():
        parts = [net(torch.from_numpy(windows[n : n + batch]).to(device)).cpu().numpy() for n in range(0, len(windows), batch)]
    return np.concatenate(parts)


def _one_thread(_: int) -> None:
    torch.set_num_threads(1)
