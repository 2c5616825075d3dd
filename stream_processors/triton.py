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

from soundscape.errors import SoundscapeError, Unavailable
from soundscape.settings import Port, Settings

Float32 = npt.NDArray[np.float32]
T = TypeVar("T")

DEADLINE_S = 10.0
"""Seconds for one inference, and above 1 s: shorter deadlines are reported to stall Triton's queue."""
PROBES = 4
"""Synthetic inferences of one probe: a dead instance beside a living one shows in some of them."""
QUEUE_FULL = "exceeds maximum queue size"


class ModelFailed(SoundscapeError):
    """The server lives, the model did not answer: its own fault or the input's; the worker finds out which."""

    def __init__(self, model: str, detail: str) -> None:
        super().__init__(f"{model}: {detail}")
        self.model = model


class Triton:
    """Triton over gRPC, for one process."""

    def __init__(self, settings: Settings) -> None:
        self._client = InferenceServerClient(settings.address(Port.TRITON_GRPC))

    async def infer(self, model: str, batch: Float32, priority: int) -> Float32:
        """Probabilities float32 (windows, labels) of features float32 (windows, *shape); priority 1 goes before 2.

        Raises Unavailable if the server is away or its queue full, ModelFailed otherwise.
        """
        tensor = InferInput("input", list(batch.shape), "FP32")
        tensor.set_data_from_numpy(batch)
        answer = await self._call(model, self._client.infer(model, [tensor], priority=priority, client_timeout=DEADLINE_S))
        output: Float32 | None = answer.as_numpy("output")
        if output is None or len(output) != len(batch):
            raise ModelFailed(model, "it answered without its output")
        if not np.isfinite(output).all():
            raise ModelFailed(model, "it answered with NaN")
        return output

    async def healthy(self, model: str, shape: tuple[int, ...]) -> bool:
        """Whether synthetic inferences succeed. Raises Unavailable if the server is away."""
        silence = np.zeros((1, *shape), np.float32)
        answers = await asyncio.gather(*(self.infer(model, silence, 1) for _ in range(PROBES)), return_exceptions=True)
        for answer in answers:
            if isinstance(answer, BaseException) and not isinstance(answer, ModelFailed):
                raise answer
        return not any(isinstance(answer, ModelFailed) for answer in answers)

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
                raise Unavailable(f"Triton's queue of {model} is full") from error
            if not await self.live():
                raise Unavailable("Triton does not answer") from error
            raise ModelFailed(model, f"{status} {message}"[:500]) from error
        except grpc.RpcError as error:
            raise Unavailable("Triton does not answer") from error
