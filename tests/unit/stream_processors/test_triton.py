"""The worker's probe of a model, on a model server in memory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tritonclient.utils import InferenceServerException

from soundscape.errors import Unavailable
from soundscape.settings import Settings
from stream_processors.triton import DEADLINE_S, QUEUE_FULL, ModelFailed, Triton

SHAPE = (2, 3)


class FakeClient:
    """Instances that take turns, some of them dead."""

    def __init__(self, instances: int, dead: set[int]) -> None:
        self.instances, self.dead, self.turns = instances, dead, 0
        self.failure, self.alive = "the stub died", True
        self.windows: list[int] = []
        self.limits: list[float] = []

    async def infer(self, model: str, inputs: list[Any], *, priority: int, client_timeout: float) -> Any:
        """By the instance whose turn it is."""
        turn, self.turns = self.turns % self.instances, self.turns + 1
        self.windows.append(windows := inputs[0].shape()[0])
        self.limits.append(client_timeout)
        if turn in self.dead:
            raise InferenceServerException(self.failure)

        class Answer:
            def as_numpy(self, _: str) -> np.ndarray:
                return np.full((windows, 2), 0.5, np.float32)

        return Answer()

    async def is_server_live(self, client_timeout: float) -> bool:
        """As the real one."""
        return self.alive


def triton(tmp_path: Path, instances: int, dead: set[int]) -> tuple[Triton, FakeClient]:
    """The adapter and the server behind it."""
    made, client = Triton(Settings(data_dir=tmp_path, triton_instances=instances)), FakeClient(instances, dead)
    made._client = client
    return made, client


@pytest.mark.parametrize("instances", [1, 2, 8, 32])
async def test_one_dead_instance_is_found_however_many_there_are(tmp_path: Path, instances: int) -> None:
    """The last one, behind all that live; and where none is dead the model is well."""
    sick, _ = triton(tmp_path, instances, {instances - 1})
    assert not await sick.healthy("one", SHAPE)
    well, client = triton(tmp_path, instances, set())
    assert await well.healthy("one", SHAPE)
    assert set(client.windows) == {4}, "a whole preferred batch each, so that no two are answered as one"


async def test_a_probe_is_given_less_time_than_a_clip(tmp_path: Path) -> None:
    """A model that hangs would hold up all who wait for its probe."""
    made, client = triton(tmp_path, 2, set())
    await made.healthy("one", SHAPE)
    assert max(client.limits) < DEADLINE_S and min(client.limits) > 1.0
    await made.infer("one", np.zeros((1, *SHAPE), np.float32), 1)
    assert client.limits[-1] == DEADLINE_S


async def test_a_queue_that_is_full_is_no_answer_to_a_probe_and_no_fault_of_a_clip(tmp_path: Path) -> None:
    """A clip waits for it; a server that is away tells nothing of the model."""
    made, client = triton(tmp_path, 1, {0})
    client.failure = QUEUE_FULL
    assert not await made.healthy("one", SHAPE)
    with pytest.raises(Unavailable, match="queue"):
        await made.infer("one", np.zeros((1, *SHAPE), np.float32), 1)
    client.failure = "Deadline Exceeded"
    with pytest.raises(ModelFailed):
        await made.infer("one", np.zeros((1, *SHAPE), np.float32), 1)
    client.alive = False
    with pytest.raises(Unavailable, match="does not answer"):
        await made.healthy("one", SHAPE)
