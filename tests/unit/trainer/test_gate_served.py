"""Whether Triton answers as the files do: asked of the deployer, and of a server in memory."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tritonclient.grpc
from tritonclient.utils import InferenceServerException

from soundscape import operator
from soundscape.errors import Invalid, Reason, Unavailable
from soundscape.features import LOG_MEL
from soundscape.release import LoadedRelease
from soundscape.settings import Settings
from soundscape.testing import tone
from trainer.evaluation.hear import Ears
from trainer.gate import served
from trainer.gate.checks import Parity, triton_agrees

WAVES = [tone(5.0, 500.0), tone(5.0, 8000.0)]


class World:
    """A deployer that lends, and a Triton that answers by the file, with an offset; either may fail."""

    def __init__(self, ears: Ears) -> None:
        self.ears, self.asked = ears, list[tuple[str, str]]()
        self.off, self.refusal, self.failure = 0.0, Exception(), Exception()

    def ask(self, _: Settings, method: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        """As the deployer's door."""
        self.asked.append((method, path))
        if isinstance(self.refusal, Unavailable | Invalid):
            raise self.refusal
        if method == "POST":
            assert body == {"release": "tones", "digest": self.ears.loaded.digest}
        return {"loan": "l-1"}

    def infer(self, model: str, inputs: list[Any], client_timeout: float) -> Any:
        """As Triton's client."""
        assert self.asked[-1] == ("POST", "/loan"), "it is on loan"
        if isinstance(self.failure, InferenceServerException):
            raise self.failure
        batch = np.frombuffer(inputs[0]._get_content(), np.float32).reshape(inputs[0].shape())
        world = self

        class Answer:
            def as_numpy(self, _: str) -> Any:
                return world.ears.members({LOG_MEL.fingerprint: batch})["tones"] + np.float32(world.off)

        return Answer()

    def close(self) -> None:
        """As Triton's client."""


@pytest.fixture
def world(loaded: LoadedRelease, monkeypatch: pytest.MonkeyPatch) -> World:
    """Where a Triton answers."""
    made = World(Ears(loaded))
    monkeypatch.setattr(served, "answers_at", lambda *_: True)
    monkeypatch.setattr(operator, "ask", made.ask)
    monkeypatch.setattr(tritonclient.grpc, "InferenceServerClient", lambda _: made)
    return made


def test_a_release_is_served_for_as_long_as_it_is_compared(settings: Settings, world: World) -> None:
    same = served.triton_parity(settings, world.ears, WAVES)
    assert (same.unasked, same.failed) == ("", "") and same.differences["tones"] < 1e-5
    assert world.asked == [("POST", "/loan"), ("DELETE", "/loan/l-1")]
    world.off = 0.5
    assert not triton_agrees(served.triton_parity(settings, world.ears, WAVES), {"tones": "fp32"}).passed
    world.off = float("nan")
    assert not triton_agrees(served.triton_parity(settings, world.ears, WAVES), {"tones": "fp32"}).passed


def test_without_a_triton_nothing_is_asked(settings: Settings, loaded: LoadedRelease) -> None:
    assert "no Triton answers here" in served.triton_parity(settings, Ears(loaded), WAVES).unasked


def test_without_a_deployer_it_is_said_that_nothing_was_asked(settings: Settings, world: World) -> None:
    world.refusal = Unavailable("The deployer does not answer.")
    assert served.triton_parity(settings, world.ears, WAVES) == Parity(unasked="The deployer does not answer.")


def test_what_triton_cannot_load_is_refused(settings: Settings, world: World) -> None:
    world.refusal = Invalid(Reason.BAD_REQUEST, "Triton cannot load tones-0")
    assert served.triton_parity(settings, world.ears, WAVES) == Parity(failed="Triton cannot load tones-0")


@pytest.mark.parametrize(("status", "asked"), [("UNAVAILABLE", False), ("DEADLINE_EXCEEDED", False), ("INTERNAL", True)])
def test_a_model_that_fails_is_refused_and_a_server_that_is_busy_is_not_asked(
    settings: Settings, world: World, status: str, asked: bool
) -> None:
    world.failure = InferenceServerException("it died", f"StatusCode.{status}")
    found = served.triton_parity(settings, world.ears, WAVES)
    assert bool(found.failed) is asked and bool(found.unasked) is not asked
    assert world.asked[-1] == ("DELETE", "/loan/l-1"), "given back all the same"
