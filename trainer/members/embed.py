"""A pretrained model's embeddings of a prepared data set's sounds, and of windows composed from them; each heard once and kept on disk."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from soundscape.features import FeatureSpec
from trainer.children import in_children
from trainer.data import store
from trainer.evaluation.hear import sound_of
from trainer.members.birdnet import interpreter
from trainer.members.body import Body
from trainer.members.graft_onnx import EMBEDDING
from trainer.progress import Counted
from trainer.training.mixing import Recipe
from trainer.training.sound_mixing import SoundMixer

Float32 = npt.NDArray[np.float32]

TOGETHER = 20
"""Composed windows that a child hears at a time: some seconds of work."""


class Scenes(NamedTuple):
    """Composed windows as a body heard them: float32 (windows, chunks, embedding), with truth and weight (windows, labels)."""

    heard: Float32
    truth: Float32
    weight: Float32


def embeddings(
    prepared: store.Prepared, body: Body, items: Sequence[store.Item], progress: Counted = lambda _n, _of: None
) -> dict[str, Float32]:
    """By item name: float32 (windows, chunks, embedding). What an earlier run has heard is not heard again.

    One process a core. Raises Invalid if a sound has changed so that it does not decode.
    """
    home, model = _home(prepared, body)
    files = {item.name: home / f"{item.digest}.npy" for item in items}
    jobs = {file: partial(embed, prepared.source / name, file, model, body.spec) for name, file in files.items()}
    each_once(jobs, progress)
    return {name: np.load(file, allow_pickle=False).astype(np.float32) for name, file in files.items()}


def scenes(
    prepared: store.Prepared, body: Body, role: str, windows: int, recipe: Recipe, progress: Counted = lambda _n, _of: None
) -> Scenes:
    """Windows composed from a role's clips; as `embeddings`, and the same for the same data and recipe."""
    home, model = _home(prepared, body)
    key = hashlib.sha256(f"{prepared.digest}{role}{recipe}".encode()).hexdigest()[:12]
    files = [home / f"scenes-{role}-{key}-{number:04d}.npz" for number in range(-(-windows // TOGETHER))]
    work = partial(embed_scenes, prepared.folder, role, recipe, model=model, spec=body.spec)
    each_once({file: partial(work, number, file) for number, file in enumerate(files)}, progress)
    parts = [np.load(file, allow_pickle=False) for file in files]
    return Scenes(*(np.concatenate([part[what] for part in parts])[:windows].astype(np.float32) for what in Scenes._fields))


def embed(source: Path, target: Path, model: Path, spec: FeatureSpec) -> None:
    """Write a sound file's embeddings, float16 (windows, chunks, embedding), whole or not at all; of its first minute."""
    found = _embedder(model)(spec.compute(sound_of(source)))
    store.write_whole(target, lambda file: np.save(file, found.astype(np.float16)))


def embed_scenes(folder: Path, role: str, recipe: Recipe, number: int, target: Path, model: Path, spec: FeatureSpec) -> None:
    """Compose TOGETHER windows, the `number`-th so many of this role, and write what the body hears as `embed` does."""
    mixer = SoundMixer(store.load(folder), role, np.random.default_rng([number, *role.encode()]), recipe)
    waves, truth, weight = zip(*(mixer.window() for _ in range(TOGETHER)), strict=True)
    heard = _embedder(model)(np.concatenate([spec.compute(wave) for wave in waves])).astype(np.float16)
    store.write_whole(target, lambda file: np.savez(file, heard=heard, truth=np.stack(truth), weight=np.stack(weight)))


def run(model: Any, chunks: Float32) -> Float32:
    """What an interpreter answers, float32 (windows, chunks, outputs), to sound float32 (windows, chunks, samples)."""
    into, out = model.get_input_details()[0]["index"], model.get_output_details()[0]["index"]
    answers = []
    for chunk in chunks.reshape(-1, chunks.shape[-1]):
        model.set_tensor(into, chunk[None])
        model.invoke()
        answers.append(model.get_tensor(out)[0].copy())
    return np.stack(answers).reshape(*chunks.shape[:2], -1)


def each_once(jobs: Mapping[Path, Callable[[], None]], progress: Counted) -> None:
    """Do the work whose file is not there yet, in a child a core: a sound that kills its decoder ends the run with one sentence."""
    todo = {file: job for file, job in jobs.items() if not file.is_file()}
    before = len(jobs) - len(todo)
    progress(before, len(jobs))
    in_children(todo, lambda *_: None, progress=lambda n, _of: progress(before + n, len(jobs)), pieces=1)


@lru_cache(maxsize=1)
def _embedder(model: Path) -> Callable[[Float32], Float32]:
    """Embeddings float32 (windows, chunks, numbers) of sound float32 (windows, chunks, samples), by a model file."""
    return partial(run, interpreter(model)) if model.suffix == ".tflite" else by_onnx(model, EMBEDDING)


@lru_cache(maxsize=1)
def by_onnx(model: Path, output: str) -> Callable[[Float32], Float32]:
    """One output float32 (windows, ...) of an ONNX file, of sound float32 (windows, chunks, samples); on one core, window by window."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return lambda sound: np.concatenate([session.run([output], {name: one[None]})[0] for one in sound])


def _home(prepared: store.Prepared, body: Body) -> tuple[Path, Path]:
    """Where embeddings are kept, and the file that gives them; both are named by the pretrained file's digest."""
    home = prepared.folder / "processed" / f"embeddings-{body.digest}"
    home.mkdir(parents=True, exist_ok=True)
    return home, embedder_file(prepared.folder, body)


def embedder_file(folder: Path, body: Body) -> Path:
    """The file that gives a body's embeddings (and, where it tells sound events, those), made once for a prepared data set's folder."""
    model = folder / "raw" / f"embedder-{body.digest}{body.suffix}"
    if not model.is_file():
        cut = body.embedder()
        store.write_whole(model, lambda file: file.write(cut))
    return model
