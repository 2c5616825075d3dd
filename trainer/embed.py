"""BirdNET's embeddings of a prepared data set's sounds, each heard once and kept on disk."""

from __future__ import annotations

import hashlib
import multiprocessing
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from trainer import store
from trainer.birdnet import FEATURES, MODEL, birdnet_folder, interpreter
from trainer.evaluation.hear import sound_of
from trainer.graft import embedder

Float32 = npt.NDArray[np.float32]


def embeddings(
    prepared: store.Prepared, items: Sequence[store.Item], progress: Callable[[int, int], None] = lambda _n, _of: None
) -> dict[str, Float32]:
    """By item name: float32 (windows, chunks, embedding). What an earlier run has heard is not heard again.

    One process a core. Raises Invalid if BirdNET is not here.
    """
    model = _model(prepared.folder / "raw")
    home = prepared.folder / "processed" / f"embeddings-{model.stem.rpartition('-')[2]}"
    home.mkdir(parents=True, exist_ok=True)
    files = {item.name: home / f"{item.digest}.npy" for item in items}
    todo = [item for item in items if not files[item.name].is_file()]
    progress(len(items) - len(todo), len(items))
    if todo:
        with ProcessPoolExecutor(len(os.sched_getaffinity(0)), mp_context=multiprocessing.get_context("spawn")) as pool:
            jobs = [pool.submit(embed, prepared.source / item.name, files[item.name], model) for item in todo]
            for n, job in enumerate(as_completed(jobs), len(items) - len(todo) + 1):
                job.result()
                progress(n, len(items))
    return {name: np.load(file, allow_pickle=False).astype(np.float32) for name, file in files.items()}


def embed(source: Path, target: Path, model: Path) -> None:
    """Write a sound file's embeddings, float16 (windows, chunks, embedding), whole or not at all; of its first minute."""
    found = _run(_interpreter(model), FEATURES.compute(sound_of(source)))
    part = target.with_name(f".{target.name}.{os.getpid()}.part")
    with part.open("wb") as file:
        np.save(file, found.astype(np.float16))
    part.replace(target)


def _run(model: Any, chunks: Float32) -> Float32:
    into, out = model.get_input_details()[0]["index"], model.get_output_details()[0]["index"]
    answers = []
    for chunk in chunks.reshape(-1, chunks.shape[-1]):
        model.set_tensor(into, chunk[None])
        model.invoke()
        answers.append(model.get_tensor(out)[0].copy())
    return np.stack(answers).reshape(*chunks.shape[:2], -1)


@lru_cache(maxsize=1)
def _interpreter(model: Path) -> Any:
    return interpreter(model)


def _model(folder: Path) -> Path:
    """BirdNET without its last layer, as a file named by its digest."""
    body = (birdnet_folder() / MODEL).read_bytes()
    path = folder / f"birdnet-{hashlib.sha256(body).hexdigest()[:8]}.tflite"
    if not path.is_file():
        part = path.with_suffix(f".{os.getpid()}.part")
        part.write_bytes(embedder(body))
        part.replace(path)
    return path
