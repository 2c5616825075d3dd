"""Pseudo-labels: what a release hears in the recordings without labels, as truth for the next training where it is sure.

One round is a release that hears and a training that learns from it; the next round hears with the release that came of it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from soundscape.errors import Invalid, Reason
from soundscape.release import LoadedRelease
from trainer.data import store
from trainer.evaluation.hear import Ears, features_of, sound_of, specs_of
from trainer.progress import Counted
from trainer.training.mixing import Known

Float32 = npt.NDArray[np.float32]

PRESENT, ABSENT = 0.8, 0.05
"""Confidences from which on a species is taken to call in a window, and up to which not; of what lies between nothing is known."""


def hear(prepared: store.Prepared, teacher: LoadedRelease, say: Callable[[str], None], progress: Counted) -> str:
    """Hear every recording without labels with a release, once; the name of what was heard, for a recipe.

    Raises Invalid if there is no such recording, or the release does not know a species of the data.
    """
    beds = prepared.of(store.BED)
    if not beds:
        what = f"{prepared.source.name} has no soundscapes without labels; put some into its train_soundscapes/."
        raise Invalid(Reason.BAD_REQUEST, what)
    if unknown := sorted(set(prepared.labels) - set(teacher.label_names)):
        what = f"{teacher.release.name} does not know {', '.join(unknown[:3])}; take a release that was trained on {prepared.source.name}"
        raise Invalid(Reason.BAD_REQUEST, f"{what}.")
    name = teacher.digest[:12]
    target = _file(prepared, name)
    if not target.is_file():
        columns = [teacher.label_names.index(label) for label in prepared.labels]
        ears, specs = Ears(teacher), specs_of(teacher)
        heard: dict[str, Any] = {}
        for n, item in enumerate(beds, 1):
            answer = ears.answer(features_of(sound_of(prepared.source / item.name), specs))
            heard[item.digest] = answer.unweighted[:, columns].astype(np.float16)
            progress(n, len(beds))
        store.write_whole(target, lambda file: np.savez(file, **heard))
    found = known(prepared, name)
    sure = sum(int(one.truth.sum()) for one in found.values())
    windows = sum(len(one.truth) for one in found.values())
    say(f"{teacher.release.name} is sure of {sure} calls in {windows} windows of {len(found)} recordings without labels.")
    return name


def known(prepared: store.Prepared, name: str) -> Mapping[str, Known]:
    """What `hear` left under that name, by the item's name, of the windows that teach; nothing for the empty name."""
    if not name:
        return {}
    with np.load(_file(prepared, name), allow_pickle=False) as heard:
        beds = [item for item in prepared.of(store.BED) if item.digest in heard.files]
        return {item.name: _known(heard[item.digest].astype(np.float32), item.voices) for item in beds}


def _known(confidence: Float32, voices: Sequence[int]) -> Known:
    confidence = confidence[[n for n in range(len(confidence)) if n not in voices]]  # as the sound is without them
    there, away = confidence >= PRESENT, confidence <= ABSENT
    return Known(there.astype(np.float32), (there | away).astype(np.float32))


def _file(prepared: store.Prepared, name: str) -> Path:
    return prepared.folder / "processed" / f"pseudo-{name}.npz"
