"""A release run in this process, without a model server: decode, features, inference, fusion, decision, by the code that serves."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import NamedTuple
from uuid import UUID

import numpy as np
import numpy.typing as npt

from soundscape.audio import SAMPLE_RATE, WINDOW_S, decode, encode_ogg, window_starts
from soundscape.errors import Invalid, Reason
from soundscape.events import ClipAnalysed, ClipRecorded, LeftOut, Place, Stages
from soundscape.features import LOG_MEL, FeatureSpec
from soundscape.fuse import detect, fuse, fusion_of, listing
from soundscape.log_mels import read_log_mels
from soundscape.release import LoadedRelease
from trainer.releases.runtimes import open_model

Float32 = npt.NDArray[np.float32]
SILENCE = 1e-5
"""Peak of a silent window, as the workers have it; a test holds the two together."""
WINDOWS_AT_ONCE = 16
THREADS = 2


class Extracted(NamedTuple):
    """Features by fingerprint, float32 (windows, *shape); which windows are silent; when decoding and features ended."""

    features: dict[str, Float32]
    silent: list[bool]
    decoded: float
    computed: float


def extract(body: bytes, content_type: str, fingerprint: str | None, specs: tuple[FeatureSpec, ...]) -> Extracted:
    """What a release's members are fed of a clip; runs in a child process. Raises Invalid as `decode` and `read_log_mels`."""
    if content_type == "application/x-npy":
        known = {spec.fingerprint: spec for spec in specs if spec.kind == "log-mel"}
        if fingerprint not in known:
            raise Invalid(Reason.UNKNOWN_FEATURES, f"The features are {fingerprint}, which the release does not take.")
        mels = read_log_mels(body, known[fingerprint]).astype(np.float32)
        now = time.time()
        return Extracted({fingerprint: mels}, [not window.any() for window in mels], now, now)
    wave = decode(body)
    decoded, length = time.time(), int(WINDOW_S * SAMPLE_RATE)
    starts = [int(start * SAMPLE_RATE) for start in window_starts(wave.size)]
    silent = [bool(np.abs(wave[start : start + length]).max(initial=0.0) <= SILENCE) for start in starts]
    return Extracted({spec.fingerprint: spec.compute(wave) for spec in dict.fromkeys(specs)}, silent, decoded, time.time())


def warm_up() -> None:
    """Meet each library once, before the first clip's time is counted."""
    LOG_MEL.compute(np.zeros(int(WINDOW_S * SAMPLE_RATE), np.float32))
    extract(encode_ogg(np.zeros(SAMPLE_RATE, np.float32)), "audio/ogg", None, ())


class LocalRelease:
    """A release whose members run here, on the processor."""

    def __init__(self, loaded: LoadedRelease) -> None:
        """Raises Invalid (release-invalid) where a member's runtime is not to be had here."""
        self.loaded = loaded
        self.specs = tuple(loaded.release.features[member.feature_fingerprint] for member in loaded.release.members)
        self._models = {
            member.name: open_model(loaded.folder / member.file, member.runtime, THREADS, member.graph_level)
            for member in loaded.release.members
        }

    def infer(self, features: dict[str, Float32]) -> dict[str, Float32]:
        """Probabilities, float32 (windows, outputs), of each member that takes one of these features. Raises Invalid if none does."""
        answers = {}
        for member in self.loaded.release.members:
            if (batch := features.get(member.feature_fingerprint)) is not None:
                steps = [self._models[member.name](batch[n : n + WINDOWS_AT_ONCE]) for n in range(0, len(batch), WINDOWS_AT_ONCE)]
                outputs = np.concatenate(steps).astype(np.float32, copy=False)
                logits = member.activation == "sigmoid"
                answers[member.name] = np.asarray(1.0 / (1.0 + np.exp(-outputs.clip(-30.0, 30.0))), np.float32) if logits else outputs
        if not answers:
            raise Invalid(Reason.UNKNOWN_FEATURES, "No member of the release takes these features.")
        return answers

    def answer(self, clip: ClipRecorded, place: Place, found: Extracted, run_id: str, received: float) -> ClipAnalysed:
        """The release's answer to a clip, as a replay says it. Raises Invalid as `infer`."""
        loaded, members = self.loaded, self.infer(found.features)
        inferred = time.time()
        fused = fuse(loaded, members, found.silent, clip.recorded_at)
        listed = listing(loaded, fused, members, found.silent)
        absent = [member.name for member in loaded.release.members if member.name not in members]
        same = ("stream", "site", "tour_id", "recorder", "file_name", "recorded_at", "latitude", "longitude", "probe", "client")
        return ClipAnalysed(
            clip_id=UUID(str(clip.clip_id)),
            **{name: getattr(clip, name) for name in same},
            place=place,
            release=loaded.release.name,
            release_digest=loaded.digest,
            generation=0,
            role="replay",
            run_id=run_id,
            licences=loaded.release.licences,
            feature_fingerprints=tuple(found.features),
            labels=listed.labels,
            score_floor=listed.score_floor,
            weights=listed.weights,
            windows=listed.windows,
            detections=detect(loaded, fused),
            left_out=tuple(LeftOut(member=name, why="the clip's features are not its own") for name in absent),
            calibrated=fused.calibrated,
            fusion=fusion_of(loaded, members),
            stages=Stages(
                recorded=clip.recorded_at,
                published=clip.published_at,
                received=_moment(received),
                decoded=_moment(found.decoded),
                features=_moment(found.computed),
                inferred=_moment(inferred),
                predicted=_moment(time.time()),
            ),
        )


def _moment(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)
