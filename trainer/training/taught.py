"""What a teacher says of composed windows: heard once by a release, kept on disk, and learnt from by a smaller network."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache, partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from soundscape.errors import Invalid, Reason
from soundscape.release import LoadedRelease, load_release
from trainer.data import store
from trainer.evaluation import evaluate
from trainer.evaluation.hear import Ears, features_of, sound_of, specs_of
from trainer.members.models import STUDENT
from trainer.progress import Counted
from trainer.training.mixing import Recipe
from trainer.training.plan import VERSIONS
from trainer.training.sound_mixing import SoundMixer

Float32 = npt.NDArray[np.float32]

WINDOWS = 12000
"""That a student learns from: of 3,000 it learns by heart, and each costs what the teacher takes to hear 5 s."""
SINGLE = 0.35
"""Share of them that are a clip as it was recorded: a phone is held towards one bird more often than a recorder is."""
TOGETHER = 20
"""Windows that a child hears at a time: some seconds of work."""
TRUST = 0.5
"""Share of the teacher in what is learnt; the rest is the composed truth. Where nobody knows the truth the teacher has all of it."""
STRIPES = ((0, 16), (1, 40))
"""Of SpecAugment, one a window on each axis: bands and frames that it hides at most."""


def hear(
    prepared: store.Prepared, teacher: LoadedRelease, windows: int, progress: Counted = lambda _n, _of: None
) -> None:
    """Let the teacher hear windows composed from training clips; what an earlier run has heard is not heard again.

    One process a core. Raises Invalid if a sound has changed so that it does not decode.
    """
    from trainer.members.embed import each_once

    home = _home(prepared, teacher.digest)
    home.mkdir(parents=True, exist_ok=True)
    files = {number: home / f"{number:05d}.npz" for number in range(-(-windows // TOGETHER))}
    each_once({file: partial(lesson, prepared.folder, teacher.folder, number, file) for number, file in files.items()}, progress)


def require_same_data(prepared: store.Prepared, teacher: LoadedRelease) -> None:
    """Raise Invalid if a teacher was trained on other data: it may know the clips that judge its student."""
    if teacher.release.data_digest != prepared.digest:
        what = f"{teacher.release.name} was trained on other data than {prepared.source.name}: clips that judge here may have taught it"
        raise Invalid(Reason.BAD_REQUEST, f"{what}; train it on this data first.")


def against(prepared: store.Prepared, student: LoadedRelease, teacher: LoadedRelease) -> dict[str, dict[str, float]]:
    """Macro mAP of a student less its teacher's, paired, with its 95 % interval over recordings: on clips that judge, and on labelled
    soundscapes; each where it can be told."""
    from trainer.releases.package import rows_of

    found: dict[str, dict[str, float]] = {}
    both = [Ears(one, threads=1) for one in (student, teacher)]
    specs = specs_of(student, teacher)

    def answers(items: list[store.Item]) -> list[list[Float32]]:
        heard = [features_of(sound_of(prepared.source / item.name), specs) for item in items]
        return [[ears.answer(one).unweighted[:, _columns(ears, prepared)] for one in heard] for ears in both]

    def add(name: str, truth: npt.NDArray[np.bool_], said: list[Float32], groups: npt.NDArray[np.str_]) -> None:
        if (less := evaluate.difference(truth, said[0], said[1], groups, evaluate.INTERVAL)) is not None:
            found[name] = {"mean": less.mean, "low": less.low, "high": less.high}

    if items := prepared.of(store.VALIDATION):
        column = {label: n for n, label in enumerate(prepared.labels)}
        truth = np.zeros((len(items), len(column)), bool)
        for row, item in zip(truth, items, strict=True):
            row[[column[label] for label in item.labels]] = True
        said = [np.stack([part.mean(axis=0) for part in parts]) for parts in answers(items)]
        add("validation_clips", truth, said, np.array([item.recording for item in items]))
    if items := prepared.of(store.JUDGE):
        _, truth, stems, kept = rows_of(prepared, items)
        add("soundscapes", truth, [np.concatenate(parts)[kept] for parts in answers(items)], stems)
    return found


def lesson(folder: Path, release: Path, number: int, target: Path) -> None:
    """Compose TOGETHER windows, the `number`-th so many, and write what the student will hear, what the teacher said, truth and weight."""
    prepared = store.load(folder)
    ears = _ears(release)
    specs, columns = specs_of(ears.loaded), _columns(ears, prepared)
    rng = np.random.default_rng([7, number])
    mixer = SoundMixer(prepared, store.TRAIN, rng, Recipe())
    waves, truth, weight = zip(*(mixer.single() if rng.random() < SINGLE else mixer.window() for _ in range(TOGETHER)), strict=True)
    said = np.concatenate([ears.answer(features_of(wave, specs)).unweighted[:, columns] for wave in waves])
    windows = np.concatenate([prepared.spec.compute(wave) for wave in waves]).astype(np.float16)
    what, there = said.astype(np.float16), np.stack(truth)
    store.write_whole(target, lambda file: np.savez(file, windows=windows, said=what, truth=there, weight=np.stack(weight)))


def batches(prepared: store.Prepared, teacher: str, size: int, rng: np.random.Generator) -> Iterator[tuple[Float32, Float32, Float32]]:
    """Endless batches, in another order each time round, of this composer's share of what was heard.

    Windows (size, n_mels, frames), what to answer and its weight (size, labels), float32.
    """
    worker = torch.utils.data.get_worker_info()
    files = sorted(_home(prepared, teacher).glob("*.npz"))[worker.id if worker else 0 :: worker.num_workers if worker else 1]
    parts = [np.load(file, allow_pickle=False) for file in files]
    windows = np.concatenate([part["windows"] for part in parts])
    said, truth, weight = (np.concatenate([part[what] for part in parts]).astype(np.float32) for what in ("said", "truth", "weight"))
    trust = np.where(weight > 0, np.float32(TRUST), np.float32(1.0))
    wanted: Float32 = (trust * said + (1 - trust) * truth).astype(np.float32)
    order = rng.permutation(len(windows))
    while True:
        for n in range(0, len(order) - size + 1, size):
            some = order[n : n + size]
            yield np.stack([_masked(window, rng) for window in windows[some].astype(np.float32)]), wanted[some], np.ones_like(wanted[some])
        order = rng.permutation(order)


def _columns(ears: Ears, prepared: store.Prepared) -> list[int]:
    return [ears.loaded.label_names.index(label) for label in prepared.labels]


def _masked(window: Float32, rng: np.random.Generator) -> Float32:
    mean = window.mean()
    for axis, longest in STRIPES:
        width = int(rng.integers(0, longest + 1))
        start = int(rng.integers(0, window.shape[axis] - width))
        window[(slice(start, start + width), slice(None))[:: 1 if axis == 0 else -1]] = mean
    return window


@lru_cache(maxsize=1)
def _ears(release: Path) -> Ears:
    return Ears(load_release(release), threads=1)


def _home(prepared: store.Prepared, teacher: str) -> Path:
    return prepared.folder / "processed" / f"taught-{VERSIONS[STUDENT]}-{teacher[:8]}-{prepared.digest[:8]}"
