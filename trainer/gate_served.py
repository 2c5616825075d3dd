"""A release's files as they are served: how large, how quick, and whether Triton answers as they do."""

from __future__ import annotations

import socket
import statistics
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from soundscape.features import Float32
from soundscape.release import LoadedRelease
from soundscape.settings import HOST, Port, Settings
from trainer.evaluation.hear import Ears, features_of, specs_of

TIMES = 50
TRITON_S = 10.0
"""Seconds for one inference."""


def float32_files(loaded: LoadedRelease) -> dict[str, Path]:
    """Of each int8 member, the float32 form that training left beside it."""
    found = {one.name: loaded.folder / one.file.replace("int8", "fp32") for one in loaded.release.members if one.precision == "int8"}
    return {name: path for name, path in found.items() if path.is_file() and path.name != _file(loaded, name)}


def sizes(loaded: LoadedRelease) -> dict[str, int]:
    """Bytes of each member's file."""
    return {one.name: (loaded.folder / one.file).stat().st_size for one in loaded.release.members}


def given(loaded: LoadedRelease) -> list[str]:
    """Members that are served as somebody else made them."""
    return [one.name for one in loaded.release.members if one.runtime != "onnx"]


def window_ms(loaded: LoadedRelease, wave: Float32) -> float:
    """Median time of all members for one window, on one thread, in ms.

    Processor time of this thread, which does all of the work: what else the machine does must not decide.
    """
    ears = Ears(loaded, threads=1)
    features = features_of(wave, specs_of(loaded)).by_spec
    taken = []
    for _ in range(TIMES + 3):
        began = time.thread_time()
        ears.members(features)
        taken.append(time.thread_time() - began)
    return statistics.median(taken[3:]) * 1000  # the first ones warm up


def answers_at(settings: Settings, port: Port) -> bool:
    """Whether anything listens there."""
    try:
        with socket.create_connection((HOST, settings.port(port)), timeout=1.0):
            return True
    except OSError:
        return False


def triton_differences(settings: Settings, ears: Ears, waves: Sequence[Float32]) -> dict[str, float | None]:
    """Largest difference in probability between Triton and the file, of each member; None where it is not loaded, or no Triton is here."""
    members = ears.loaded.release.members
    out: dict[str, float | None] = dict.fromkeys(one.name for one in members)
    if not answers_at(settings, Port.TRITON_GRPC):
        return out
    import grpc
    from tritonclient.grpc import InferenceServerClient, InferInput
    from tritonclient.utils import InferenceServerException

    client = InferenceServerClient(settings.address(Port.TRITON_GRPC))
    try:
        for member in members:
            if not client.is_model_ready(member.triton_name, client_timeout=TRITON_S):
                continue
            found = []
            for wave in waves:
                features = features_of(wave, specs_of(ears.loaded)).by_spec
                batch = features[member.feature_fingerprint]
                tensor = InferInput("input", list(batch.shape), "FP32")
                tensor.set_data_from_numpy(batch)
                answer = client.infer(member.triton_name, [tensor], client_timeout=TRITON_S).as_numpy("output")
                own = ears.members(features)[member.name]
                found.append(float(np.abs(answer - own).max()) if answer is not None and answer.shape == own.shape else float("inf"))
            out[member.name] = max(found)
    except (InferenceServerException, grpc.RpcError):  # it went away, or is about to load: then it was not asked
        return out
    finally:
        client.close()
    return out


def _file(loaded: LoadedRelease, name: str) -> str:
    return next(one.file for one in loaded.release.members if one.name == name)
