"""The Triton adapter: one inference with a deadline, a probe, and the server's errors as ours."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Any, TypeVar

import grpc
import numpy as np
import numpy.typing as npt
from tritonclient.grpc import InferInput
from tritonclient.grpc.aio import InferenceServerClient
from tritonclient.utils import InferenceServerException

from soundscape import probe
from soundscape.errors import SoundscapeError, Unavailable
from soundscape.settings import Port, Settings

Float32 = npt.NDArray[np.float32]
T = TypeVar("T")

DEADLINE_S = 10.0
"""Seconds for one inference, and above 1 s: shorter deadlines are reported to stall Triton's queue."""
PROBE_S = 3.0
"""Seconds for a synthetic inference: a model that hangs is soon known, and one that came back as soon."""
QUEUE_FULL = "exceeds maximum queue size"


class ModelFailed(SoundscapeError):
    """The server lives, the model did not answer: its own fault or the input's; the worker finds out which."""

    def __init__(self, model: str, detail: str) -> None:
        super().__init__(f"{model}: {detail}")
        self.model = model


class QueueFull(Unavailable):
    """The server lives, and the model has more to do than its queue holds."""


class Triton:
    """Triton over gRPC, for one process."""

    def __init__(self, settings: Settings) -> None:
        self._client = InferenceServerClient(settings.address(Port.TRITON_GRPC))
        self._inferences = probe.inferences(settings)

    async def infer(self, model: str, batch: Float32, priority: int, limit_s: float = DEADLINE_S) -> Float32:
        """Probabilities float32 (windows, labels) of features float32 (windows, *shape); priority 1 goes before 2.

        Raises Unavailable if the server is away or its queue full, ModelFailed otherwise, also after `limit_s`.
        """
        tensor = InferInput("input", list(batch.shape), "FP32")
        tensor.set_data_from_numpy(batch)
        answer = await self._call(model, self._client.infer(model, [tensor], priority=priority, client_timeout=limit_s))
        output: Float32 | None = answer.as_numpy("output")
        if output is None or len(output) != len(batch):
            raise ModelFailed(model, "it answered without its output")
        if not np.isfinite(output).all():
            raise ModelFailed(model, "it answered with NaN")
        return output

    async def healthy(self, model: str, shape: tuple[int, ...]) -> bool:
        """Whether synthetic inferences succeed, each within PROBE_S. Raises Unavailable if the server is away.

        A queue full of what goes first is a sign of sickness: a model that hangs lets it grow.
        """
        silence = probe.silence(shape)
        asked = (self.infer(model, silence, 1, PROBE_S) for _ in range(self._inferences))
        answers = await asyncio.gather(*asked, return_exceptions=True)
        failed = [answer for answer in answers if isinstance(answer, BaseException)]
        for error in failed:
            if not isinstance(error, ModelFailed | QueueFull):
                raise error
        return not failed

    async def live(self) -> bool:
        """Whether the server itself answers."""
        try:
            return bool(await self._client.is_server_live(client_timeout=DEADLINE_S))
        except InferenceServerException:
            return False

    async def close(self) -> None:
        """Close the channel."""
        await self._client.close()

    async def _call(self, model: str, call: Awaitable[Any]) -> Any:
        try:
            return await call
        except InferenceServerException as error:
            status, message = str(error.status()), str(error.message())
            if QUEUE_FULL in message:
                raise QueueFull(f"Triton's queue of {model} is full") from error
            if not await self.live():
                raise Unavailable("Triton does not answer") from error
            raise ModelFailed(model, f"{status} {message}"[:500]) from error
        except grpc.RpcError as error:
            raise Unavailable("Triton does not answer") from error
