"""What members said of windows, and what a release makes of it, as the workers fuse it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from soundscape.fuse import fuse
from soundscape.release import LoadedRelease
from trainer.data import store

Bool = npt.NDArray[np.bool_]
Float32 = npt.NDArray[np.float32]


class Answered(NamedTuple):
    """What members said of windows: probabilities float32 (windows, outputs) by member, and the truth bool (windows, data's labels)."""

    by_member: dict[str, Float32]
    truth: Bool
    groups: npt.NDArray[np.str_]
    """The recording of each window."""


def answer(loaded: LoadedRelease, by_member: Mapping[str, Float32], prepared: store.Prepared) -> Float32:
    """What the release says, as the workers fuse it, of the data's labels: float32 (windows, labels).

    With a context the windows are those of one sound.
    """
    columns = [loaded.label_names.index(label) for label in prepared.labels]
    windows = len(next(iter(by_member.values())))
    return fuse(loaded, dict(by_member), [False] * windows, None).unweighted[:, columns]


def changed(loaded: LoadedRelease, **changes: Any) -> LoadedRelease:
    """The release with other parts in its `release.json`, in memory."""
    return LoadedRelease(loaded.folder, loaded.release.model_copy(update=changes), loaded.digest)


def exported(parts: Sequence[LoadedRelease], fitted: LoadedRelease) -> dict[str, Any]:
    """What training measured of the networks that stayed, of the one that differs most from PyTorch: the gate asks for the worst."""
    stayed = {member.name for member in fitted.release.members}
    told = [
        part.release.metrics["int8"] for part in parts
        if "int8" in part.release.metrics and not stayed.isdisjoint(member.name for member in part.release.members)
    ]  # fmt: skip
    chosen = {
        name: one
        for part in parts for name, one in part.release.metrics.get("optimized", {}).get("members", {}).items() if name in stayed
    }  # fmt: skip
    return {
        **({"int8": max(told, key=lambda one: float(one["onnx_difference"]))} if told else {}),
        **({"optimized": {"members": chosen}} if chosen else {}),
    }
