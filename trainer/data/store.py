"""A prepared data set on disk: folders, ledger, and mel power by clip."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from soundscape.features import LOG_MEL, SILENCE_POWER, FeatureSpec
from soundscape.taxonomy import Species
from trainer.data.catalog import Row
from trainer.data.split import TRAIN, VALIDATION

Float32 = npt.NDArray[np.float32]
Float16 = npt.NDArray[np.float16]

BED = "bed"
"""Role of an unlabelled soundscape: training hears calls over it."""
JUDGE = "soundscape"
"""Role of a labelled soundscape: only ever judged on."""


@dataclass(frozen=True)
class Item:
    """One prepared sound: a clip or a soundscape with its mel power in `file` (decibels, not scaled by the peak)."""

    name: str
    """`train_audio/…` or `train_soundscapes/…` in the data folder."""
    role: str
    labels: tuple[str, ...]
    """The primary label first; none for soundscapes."""
    recording: str
    file: str
    """`.npy` under the data set's folder, float16 (n_mels, frames)."""
    seconds: float
    digest: str
    """SHA-256 of the sound file."""
    weight: float = 1.0
    """How often it is drawn beside others of its species."""
    voices: tuple[int, ...] = ()
    """Windows of 5 s, counted from 0, in which somebody speaks: nothing is learnt from them (trainer/data/speech.py)."""


@dataclass(frozen=True)
class Prepared:
    """A prepared data set: what `prepare` leaves and `train` needs."""

    folder: Path
    source: Path
    digest: str
    """Of everything that decides what is learnt: tables, sounds, features, split."""
    spec: FeatureSpec
    species: tuple[Species, ...]
    items: tuple[Item, ...]
    rows: tuple[Row, ...]

    @property
    def labels(self) -> tuple[str, ...]:
        """Columns of truth and scores, in plain string order."""
        return tuple(one.label for one in self.species)

    def of(self, role: str) -> list[Item]:
        """The items of a role: train, validation, bed, soundscape."""
        return [item for item in self.items if item.role == role]

    def decibels(self, item: Item) -> Float16:
        """Mel power of an item in dB, float16 (n_mels, frames), mapped from disk."""
        mapped: Float16 = np.load(self.folder / item.file, mmap_mode="r", allow_pickle=False)
        return mapped

    def taught(self, item: Item) -> Float16:
        """`decibels` as training hears them: without the windows in which somebody speaks."""
        heard: Float16 = unspoken(self.decibels(item), item.voices, self.spec.frames)
        return heard

    def windows(self, item: Item) -> Float32:
        """What a model is fed of an item: float32 (windows, n_mels, frames) in [0, 1], as `soundscape.features.log_mel` up to the
        rounding of float16 (0.03 dB)."""
        return scale(self.decibels(item).astype(np.float32), self.spec)

    def truth(self, items: Sequence[Item]) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.str_]]:
        """Labels of every window of clips, bool (windows, labels), and the recording of each, (windows,)."""
        column = {label: n for n, label in enumerate(self.labels)}
        truth, recordings = [], []
        for item in items:
            row = np.zeros(len(column), bool)
            row[[column[label] for label in item.labels]] = True
            n = count(self.decibels(item).shape[1], self.spec)
            truth.append(np.repeat(row[None], n, axis=0))
            recordings += [item.recording] * n
        return np.concatenate(truth), np.array(recordings)


def unspoken(sound: Any, voices: Sequence[int], length: int) -> Any:
    """A sound, or its mel power (..., time), without some of its windows of `length` along its last axis; what remains moves up."""
    if not voices:
        return sound
    kept = np.ones(sound.shape[-1], bool)
    for n in voices:
        kept[n * length : (n + 1) * length] = False
    return sound[..., kept]


def count(frames: int, spec: FeatureSpec = LOG_MEL) -> int:
    """Windows of a sound of so many frames: a remainder of at most a quarter of a second opens none (soundscape.audio.TAIL_S)."""
    whole, rest = divmod(frames - 1, spec.frames)
    return max(1, whole + (rest * spec.hop > 0.25 * spec.sample_rate))


def scale(decibels: Float32, spec: FeatureSpec = LOG_MEL) -> Float32:
    """Windows scaled by their own peak, float32 (windows, n_mels, frames) in [0, 1], from dB float32 (n_mels, any frames)."""
    windows, floor = count(decibels.shape[1], spec), np.float32(10 * np.log10(SILENCE_POWER))
    wanted = windows * spec.frames
    padded = np.pad(decibels[:, :wanted], ((0, 0), (0, max(0, wanted - decibels.shape[1]))), constant_values=floor)
    stacked = padded.reshape(spec.n_mels, windows, spec.frames).transpose(1, 0, 2)
    peak = stacked.max(axis=(1, 2), keepdims=True)
    scaled = np.maximum(1.0 + (stacked - peak) / np.float32(spec.top_db), 0.0)
    scaled[peak[:, 0, 0] <= floor] = 0.0
    return np.ascontiguousarray(scaled, dtype=np.float32)


def save(prepared: Prepared) -> None:
    """Write `dataset.json`, whole or not at all."""
    body = {
        "source": str(prepared.source),
        "digest": prepared.digest,
        "features": prepared.spec.model_dump(mode="json"),
        "species": [one.model_dump() for one in prepared.species],
        "items": [asdict(item) for item in prepared.items],
        "rows": [asdict(row) for row in prepared.rows],
    }
    write_text(prepared.folder / "dataset.json", json.dumps(body, indent=1))


def load(folder: Path) -> Prepared:
    """Read what `save` wrote. Raises FileNotFoundError before the first `prepare` has ended."""
    body = json.loads((folder / "dataset.json").read_text(encoding="utf-8"))
    return Prepared(
        folder=folder,
        source=Path(body["source"]),
        digest=body["digest"],
        spec=FeatureSpec.model_validate(body["features"]),
        species=tuple(Species.model_validate(one) for one in body["species"]),
        items=tuple(Item(**{**one, "labels": tuple(one["labels"]), "voices": tuple(one.get("voices", ()))}) for one in body["items"]),
        rows=tuple(Row(one["row_id"], tuple(one["labels"])) for one in body["rows"]),
    )


def write_whole(path: Path, save: Callable[[Any], object]) -> None:
    """Let `save` write a file, whole or not at all. Raises OSError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    file = io.BytesIO()
    save(file)
    part.write_bytes(file.getbuffer())  # numpy itself does not say that a disk is full, but that so many bytes were not written
    part.replace(path)


def write_text(path: Path, text: str) -> None:
    """Write a text, whole or not at all. Raises OSError."""
    write_whole(path, lambda file: file.write(text.encode()))


__all__ = [
    "BED", "JUDGE", "TRAIN", "VALIDATION", "Item", "Prepared", "count", "load", "save", "scale", "unspoken", "write_text", "write_whole",
]  # fmt: skip
