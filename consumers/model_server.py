"""Triton's side of a deployment: the repository built from a release's members, loading, probing, unloading."""

from __future__ import annotations

import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import tritonclient.grpc as triton
from tritonclient.utils import InferenceServerException

from soundscape import probe
from soundscape.errors import Invalid, Reason, Unavailable
from soundscape.release import LoadedRelease, Member
from soundscape.settings import Port, Settings

SOURCES = Path(__file__).parents[1] / "model_repo"
ANSWER_S = 10.0
"""Seconds for anything but a load."""
LOAD_S = 120.0
"""Seconds that a load may take: BirdNET takes 3 on two cores that do nothing else."""


def build(settings: Settings, loaded: LoadedRelease, member: Member) -> None:
    """Lay a member into Triton's repository, whole or not at all; nothing to do if it is there: its name holds its digest."""
    target = settings.model_repository / member.triton_name
    if target.exists():
        return
    temporary = settings.model_repository / f".{member.triton_name}.{os.getpid()}"
    version = temporary / "1"
    shutil.rmtree(temporary, ignore_errors=True)
    version.mkdir(parents=True)
    shutil.copy2(SOURCES / "runner" / "model.py", version / "model.py")
    shutil.copy2(loaded.folder / member.file, version / member.file)
    (temporary / "config.pbtxt").write_text(configuration(settings, loaded, member), encoding="utf-8")
    temporary.rename(target)


def configuration(settings: Settings, loaded: LoadedRelease, member: Member) -> str:
    """`config.pbtxt` of a member: instances of one thread each, as many as settings say, so that they stay within the cores."""
    template = (SOURCES / "config.pbtxt.in").read_text(encoding="utf-8")
    return template.format(
        name=member.triton_name,
        dims=", ".join(map(str, loaded.release.features[member.feature_fingerprint].shape)),
        labels=member.outputs,
        instances=settings.model_instances,
        # With one instance take all that waits; with more, share: a large batch in one leaves the others idle (FACTS).
        preferred="4, 8, 16" if settings.model_instances == 1 else str(probe.WINDOWS),
        file=member.file,
        runtime=member.runtime,
        graph_level=member.graph_level,
        activation=member.activation,
        threads=1,
    )


class ModelServer:
    """Triton over gRPC, for the deployer; safe from several threads."""

    def __init__(self, settings: Settings) -> None:
        self._client = triton.InferenceServerClient(settings.address(Port.TRITON_GRPC))
        self._repository = settings.model_repository
        self._probes = ThreadPoolExecutor(probe.inferences(settings))
        self._inferences = probe.inferences(settings)

    def live(self) -> bool:
        """Whether the server answers."""
        try:
            return bool(self._client.is_server_live(client_timeout=ANSWER_S))
        except InferenceServerException:
            return False

    def loaded(self) -> set[str]:
        """Names of the models that are ready. Raises Unavailable."""
        try:
            index = self._client.get_model_repository_index(as_json=True, client_timeout=ANSWER_S)
        except InferenceServerException as error:
            raise Unavailable("Triton does not answer") from error
        return {model["name"] for model in index.get("models", []) if model.get("state") == "READY"}

    def load(self, name: str) -> None:
        """Load a model, also one that is loaded: that brings dead instances back. Raises Unavailable, or Invalid with Triton's word."""
        try:
            # Triton passes over a model that has not changed since it was loaded, dead instances or not.
            os.utime(self._repository / name / "1" / "model.py")
            self._client.load_model(name, client_timeout=LOAD_S)
        except InferenceServerException as error:
            if not self.live():
                raise Unavailable("Triton does not answer") from error
            raise Invalid(Reason.RELEASE_INVALID, f"Triton cannot load {name}: {str(error)[-400:]}") from error

    def unload(self, name: str) -> None:
        """Unload a model. Raises Unavailable."""
        try:
            self._client.unload_model(name, client_timeout=ANSWER_S)
        except InferenceServerException as error:
            raise Unavailable("Triton does not answer") from error

    def counts(self, name: str) -> tuple[int, int]:
        """Inferences of a model so far: (succeeded, failed). Raises Unavailable."""
        try:
            answer = self._client.get_inference_statistics(name, as_json=True, client_timeout=ANSWER_S)
            said = answer["model_stats"][0]["inference_stats"]
        except InferenceServerException as error:
            raise Unavailable("Triton does not answer") from error
        return int(said["success"].get("count", 0)), int(said["fail"].get("count", 0))

    def probe(self, name: str, shape: tuple[int, ...], labels: int) -> bool:
        """Whether synthetic inferences give `labels` finite numbers a window. Raises Unavailable if the server is away."""
        silence = probe.silence(shape)
        tensor = triton.InferInput("input", list(silence.shape), "FP32")
        tensor.set_data_from_numpy(silence)

        def ask(_: int) -> Any:
            return self._client.infer(name, [tensor], priority=1, client_timeout=ANSWER_S).as_numpy("output")

        try:
            outputs = list(self._probes.map(ask, range(self._inferences)))
        except InferenceServerException as error:
            if not self.live():
                raise Unavailable("Triton does not answer") from error
            return False
        wanted = (len(silence), labels)
        return all(output is not None and output.shape == wanted and bool(np.isfinite(output).all()) for output in outputs)
