"""What a release answers to sounds: its own features, its served model files in this process, its own fusion."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from soundscape.audio import SAMPLE_RATE, WINDOW_S, decode, window_starts
from soundscape.errors import Broken, Invalid, Reason
from soundscape.features import FeatureSpec
from soundscape.fuse import Fused, fuse
from soundscape.release import LoadedRelease, Member
from trainer.children import in_children
from trainer.data import store
from trainer.progress import Counted
from trainer.releases.runtimes import open_model

Float32 = npt.NDArray[np.float32]

LONGEST_S = 60.0
"""Of a longer sound its first minute judges, as its first minute would teach."""
SILENCE = 1e-5
"""Peak of a window that the workers call silent (stream_processors/extract.py)."""
BATCH = 32


class Features(NamedTuple):
    """Of one sound: features by fingerprint, float32 (windows, *shape); which windows are silent; the level of each in dB (RMS)."""

    by_spec: dict[str, Float32]
    silent: list[bool]
    levels: list[float]


class Ears:
    """A release's models, ready to hear. Raises Invalid (release-invalid) for what does not run here, or is no model."""

    def __init__(self, loaded: LoadedRelease, threads: int = 2, instead: Mapping[str, Path] | None = None) -> None:
        """`instead`: other files for members by name, as the float32 form beside the int8 one that is served."""
        self.loaded = loaded
        members = loaded.release.members
        self._models = {one.name: model_of(one, (instead or {}).get(one.name, loaded.folder / one.file), threads) for one in members}

    def members(self, features: Mapping[str, Float32]) -> dict[str, Float32]:
        """Each member's probabilities, float32 (windows, outputs). Raises Broken if a model does not run, or answers with NaN."""
        out = {}
        for member in self.loaded.release.members:
            found = self._models[member.name](features[member.feature_fingerprint])
            if found.shape[1] != member.outputs:
                what = f"Member {member.name} gives {found.shape[1]} outputs, and the release names {member.outputs}."
                raise Invalid(Reason.RELEASE_INVALID, what)
            if not np.isfinite(found).all():
                raise Broken(f"Member {member.name} answers with NaN.")
            out[member.name] = found
        return out

    def answer(self, features: Features, recorded_at: Any = None) -> Fused:
        """The release's answer to a sound, as the workers fuse it."""
        return fuse(self.loaded, self.members(features.by_spec), features.silent, recorded_at)


def heard_by(loaded: LoadedRelease, prepared: store.Prepared, items: Sequence[store.Item]) -> Float32:
    """What the first member of a release says of prepared sounds: probabilities float32 (windows, outputs), in the sounds' order."""
    member = loaded.release.members[0]
    spec, model = loaded.release.features[member.feature_fingerprint], model_of(member, loaded.folder / member.file, 2)
    return np.concatenate([model(windows_of(prepared, item, spec)) for item in items])


def windows_of(prepared: store.Prepared, item: store.Item, spec: FeatureSpec) -> Float32:
    """Every window of a prepared sound as a model that hears `spec` is fed it: float32 (windows, *spec.shape)."""
    if spec == prepared.spec:
        return prepared.windows(item)
    return spec.compute(sound_of(prepared.source / item.name))


def model_of(member: Member, path: Path, threads: int) -> Callable[[Float32], Float32]:
    """A member's model: float32 (windows, *shape) to probabilities float32 (windows, outputs), as model_repo/runner answers."""
    opened = open_model(path, member.runtime, threads, member.graph_level)

    def run(windows: Float32) -> Float32:
        parts = [opened(windows[n : n + BATCH]) for n in range(0, len(windows), BATCH)]
        return np.concatenate(parts).astype(np.float32, copy=False)

    if member.activation == "none":
        return run
    return lambda windows: np.asarray(1.0 / (1.0 + np.exp(-np.clip(run(windows), -30.0, 30.0))), np.float32)


def specs_of(*releases: LoadedRelease) -> tuple[FeatureSpec, ...]:
    """Every feature spec that a member of these releases wants, each once."""
    wanted = {member.feature_fingerprint: one.release.features for one in releases for member in one.release.members}
    return tuple(features[fingerprint] for fingerprint, features in wanted.items())


def features_of(wave: Float32, specs: Sequence[FeatureSpec]) -> Features:
    """Features of a mono sound at 32 kHz, float32 (samples,)."""
    length = int(WINDOW_S * SAMPLE_RATE)
    windows = [wave[int(start * SAMPLE_RATE) :][:length] for start in window_starts(wave.size)]
    silent = [bool(np.abs(window).max(initial=0.0) <= SILENCE) for window in windows]
    levels = [float(10 * np.log10(np.mean(np.square(window, dtype=np.float64)) + 1e-12)) if window.size else -120.0 for window in windows]
    return Features({spec.fingerprint: spec.compute(wave) for spec in specs}, silent, levels)


def sound_of(path: Path) -> Float32:
    """The first minute of a file: mono float32 (samples,) at 32 kHz. Raises Invalid as `soundscape.audio.decode`."""
    import soundfile

    from soundscape.audio import resample

    try:
        with soundfile.SoundFile(path) as file:
            if LONGEST_S + 1 < file.frames / file.samplerate < 1e6:  # `decode` refuses what is longer than a clip may be
                wave = file.read(int((LONGEST_S + 0.1) * file.samplerate), dtype="float32", always_2d=True).mean(axis=1)
                if not np.isfinite(wave).all():
                    raise Invalid(Reason.NOT_FINITE, "The sound has NaN or infinite samples.")
                return resample(wave, file.samplerate, SAMPLE_RATE)[: int(LONGEST_S * SAMPLE_RATE)]
    except soundfile.LibsndfileError:
        pass  # `decode` says what is wrong with it
    return decode(path.read_bytes())


def heard_file(path: Path, specs: tuple[FeatureSpec, ...]) -> Features:
    """What a child does with a file."""
    return features_of(sound_of(path), specs)


def hear_all(
    paths: Sequence[Path],
    specs: tuple[FeatureSpec, ...],
    take: Callable[[int, Features], None],
    refuse: Callable[[int, Invalid], None],
    progress: Counted = lambda _n, _of: None,
    children: int | None = None,
) -> None:
    """Decode every file and give each one's features to `take`, or the reason why there are none to `refuse`; never all at once.

    In children as `in_children` has them.
    """
    work = {n: partial(heard_file, path, specs) for n, path in enumerate(paths)}
    in_children(work, take, refuse, progress, children)
