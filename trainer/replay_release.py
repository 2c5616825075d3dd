"""A release run in this process, without a model server: decode, features, inference, fusion, decision, by the code that serves."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple
from uuid import UUID

import numpy as np
import numpy.typing as npt

from soundscape.audio import SAMPLE_RATE, WINDOW_S, decode, encode_ogg, window_starts
from soundscape.errors import Invalid, Reason
from soundscape.events import ClipAnalysed, ClipRecorded, LeftOut, Place, Stages
from soundscape.features import LOG_MEL, FeatureSpec
from soundscape.fuse import detect, fuse, fusion_of, listing
from soundscape.log_mels import read_log_mels
from soundscape.release import LoadedRelease, Member

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
        self._models = {member.name: _model(loaded.folder, member) for member in loaded.release.members}

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


def _model(folder: Path, member: Member) -> Callable[[Float32], Float32]:
    try:
        if member.runtime == "onnx":
            return _onnx(folder / member.file)
        if member.runtime == "litert":
            return _litert(folder / member.file)
    except ImportError as error:
        what = f"Member {member.name} needs {error.name}, which is not installed here; run `make setup`."
        raise Invalid(Reason.RELEASE_INVALID, what) from error
    raise Invalid(Reason.RELEASE_INVALID, f"Member {member.name} runs by {member.runtime}, which a replay has not; it has ONNX and LiteRT.")


def _onnx(path: Path) -> Callable[[Float32], Float32]:
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads, options.log_severity_level = THREADS, 1, 3
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name

    def run(batch: Float32) -> Float32:
        outputs: Float32 = session.run(None, {name: batch})[0]
        return outputs

    return run


def _litert(path: Path) -> Callable[[Float32], Float32]:
    """Each window is some chunks of sound, and its output the highest of them, as in the model server's runner."""
    from ai_edge_litert.interpreter import Interpreter

    model: Any = Interpreter(model_path=str(path), num_threads=THREADS)
    into, out, chunks = model.get_input_details()[0]["index"], model.get_output_details()[0]["index"], 0

    def window(sound: Float32) -> Float32:
        nonlocal chunks
        if len(sound) != chunks:
            model.resize_tensor_input(into, sound.shape)
            model.allocate_tensors()
            chunks = len(sound)
        model.set_tensor(into, sound)
        model.invoke()
        highest: Float32 = model.get_tensor(out).max(axis=0)
        return highest

    return lambda batch: np.stack([window(sound) for sound in batch])


def _moment(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)
