"""A release's files as they are served: how large, how quick, and whether Triton answers as they do."""

from __future__ import annotations

import socket
import statistics
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from soundscape.audio import SAMPLE_RATE, WINDOW_S
from soundscape.errors import Invalid, Reason, Unavailable
from soundscape.features import Float32
from soundscape.release import LoadedRelease
from soundscape.settings import HOST, Port, Settings
from trainer.evaluation.hear import Ears, features_of, specs_of
from trainer.gate.checks import Parity
from trainer.releases.variants import float32_of

TIMES = 50
TRITON_S = 10.0
"""Seconds for one inference."""
AWAY = ("StatusCode.UNAVAILABLE", "StatusCode.DEADLINE_EXCEEDED")
"""What says nothing of the model: the server is gone, its queue is full, or it is busy."""


def float32_files(loaded: LoadedRelease) -> dict[str, Path]:
    """Of each int8 member, the float32 form that training left beside it."""
    found = {one.name: float32_of(loaded, one) for one in loaded.release.members}
    return {name: path for name, path in found.items() if path is not None}


def sizes(loaded: LoadedRelease) -> dict[str, int]:
    """Bytes of each member's file."""
    return {one.name: (loaded.folder / one.file).stat().st_size for one in loaded.release.members}


def given(loaded: LoadedRelease) -> list[str]:
    """Members that are served as somebody else made them."""
    return [one.name for one in loaded.release.members if one.runtime == "litert"]


def window_ms(loaded: LoadedRelease, wave: Float32) -> float:
    """Median time of all members for one window, on one thread, in ms.

    Processor time of this process, which does nothing else: what else the machine does must not decide. Not of this thread alone,
    for OpenVINO works in one of its own.
    """
    ears = Ears(loaded, threads=1)
    features = features_of(wave, specs_of(loaded)).by_spec
    taken = []
    for _ in range(TIMES + 3):
        began = time.process_time()
        ears.members(features)
        taken.append(time.process_time() - began)
    return statistics.median(taken[3:]) * 1000  # the first ones warm up


@cache
def network_ms() -> float:
    """The same of the benchmark's release, an int8 EfficientNet-B0 of 206 classes: what a millisecond of this machine is worth."""
    from trainer.releases.bench_release import add_bench

    with TemporaryDirectory() as folder:
        return window_ms(add_bench(Path(folder)), np.zeros(int(SAMPLE_RATE * WINDOW_S), np.float32))


def answers_at(settings: Settings, port: Port) -> bool:
    """Whether anything listens there."""
    try:
        with socket.create_connection((HOST, settings.port(port)), timeout=1.0):
            return True
    except OSError:
        return False


def triton_parity(settings: Settings, ears: Ears, waves: Sequence[Float32]) -> Parity:
    """Triton beside the files on the same sounds; the deployer serves the release for as long as it takes, if no site's state names it."""
    if not answers_at(settings, Port.TRITON_GRPC):
        return Parity(unasked="no Triton answers here; `soundscape up` starts it")
    try:
        with _on_loan(settings, ears.loaded):
            return Parity(_differences(settings, ears, waves))
    except Unavailable as error:
        return Parity(unasked=str(error))
    except Invalid as error:
        return Parity(failed=error.detail)


@contextmanager
def _on_loan(settings: Settings, loaded: LoadedRelease) -> Iterator[None]:
    """Let the deployer serve a release meanwhile. Raises Invalid where Triton cannot, Unavailable where the deployer cannot be asked."""
    from soundscape.operator import ask

    loan = ask(settings, "POST", "/loan", {"release": loaded.folder.name, "digest": loaded.digest})["loan"]
    try:
        yield
    finally:
        with suppress(Unavailable, Invalid):  # it ends by itself then
            ask(settings, "DELETE", f"/loan/{loan}")


def _differences(settings: Settings, ears: Ears, waves: Sequence[Float32]) -> dict[str, float]:
    """Largest difference in probability, of each member. Raises Unavailable if Triton went away, Invalid if it does not answer."""
    import grpc
    from tritonclient.grpc import InferenceServerClient, InferInput
    from tritonclient.utils import InferenceServerException

    client = InferenceServerClient(settings.address(Port.TRITON_GRPC))
    found: dict[str, float] = {}
    try:
        for member in ears.loaded.release.members:
            for wave in waves:
                features = features_of(wave, specs_of(ears.loaded)).by_spec
                batch = features[member.feature_fingerprint]
                tensor = InferInput("input", list(batch.shape), "FP32")
                tensor.set_data_from_numpy(batch)
                answer = client.infer(member.triton_name, [tensor], client_timeout=TRITON_S).as_numpy("output")
                own = ears.members(features)[member.name]
                same = answer is not None and answer.shape == own.shape and np.isfinite(answer).all()
                found[member.name] = max(found.get(member.name, 0.0), float(np.abs(answer - own).max()) if same else float("inf"))
    except InferenceServerException as error:
        if str(error.status()) in AWAY:
            raise Unavailable(f"Triton did not answer ({error.status()})") from error
        raise Invalid(Reason.RELEASE_INVALID, f"{error.status()} {error.message()}"[:400]) from error
    except grpc.RpcError as error:
        raise Unavailable("Triton did not answer") from error
    finally:
        client.close()
    return found
