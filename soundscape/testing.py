"""What tests of several packages share: a whole stack of their own, small releases with known numbers, sound, and waiting by condition."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import httpx
import numpy as np
import numpy.typing as npt

from soundscape.audio import SAMPLE_RATE, encode_ogg
from soundscape.features import LOG_MEL
from soundscape.release import LoadedRelease, Member, Release, file_digest, write_release
from soundscape.settings import Port, Settings
from soundscape.taxonomy import Species

Float32 = npt.NDArray[np.float32]
COMMAND = str(Path(sys.executable).parent / "soundscape")


def wait_for(condition: Callable[[], Any], what: str, limit_s: float = 60.0) -> Any:
    """The first true value of the condition. Raises AssertionError that names what did not come about."""
    deadline = time.monotonic() + limit_s
    while not (value := condition()):
        assert time.monotonic() < deadline, f"not within {limit_s:.0f} s: {what}"
        time.sleep(0.05)
    return value


def tone(seconds: float, hertz: float, rate: int = SAMPLE_RATE) -> Float32:
    """A tone over quiet noise: mono float32 (samples,)."""
    t = np.arange(int(seconds * rate)) / rate
    noise = np.random.default_rng(int(hertz)).normal(0.0, 0.003, t.size)
    return np.asarray(0.3 * np.sin(2 * np.pi * hertz * t) + noise, np.float32)


def ogg(seconds: float = 5.0, hertz: float = 2000.0) -> bytes:
    """The same as OGG Vorbis."""
    return encode_ogg(tone(seconds, hertz))


def tone_release(folder: Path, name: str, *, activation: Literal["none", "sigmoid"] = "sigmoid") -> LoadedRelease:
    """A release that names `low` for sound around 500 Hz, `mid` around 2 kHz and `top` around 8 kHz, by band energy.

    A window whose features are all exactly 1 divides the least integer by -1, a trap of the processor: it kills the process that runs it.
    """
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    centres = {"low": 500.0, "mid": 2000.0, "top": 8000.0}
    bands = _band_of(centres)
    weights = np.full((LOG_MEL.n_mels, len(centres)), -16.0 / LOG_MEL.n_mels, np.float32)
    for column, band in enumerate(bands.values()):
        weights[band - 1 : band + 2, column] += 8.0
    constants = {
        "weights": weights,
        "bias": np.full(len(centres), -10.0, np.float32),
        "one": np.ones(1, np.float32),
        "least_int": np.full(1, -(2**31), np.int32),
        "two": np.full(1, 2, np.int32),
        "one_int": np.ones(1, np.int32),
    }
    nodes = [
        helper.make_node("ReduceMean", ["input", "frames_axis"], ["bands"], keepdims=0),
        helper.make_node("MatMul", ["bands", "weights"], ["raw"]),
        helper.make_node("Add", ["raw", "bias"], ["logits"]),
        helper.make_node("ReduceMin", ["input", "both_axes"], ["least"], keepdims=0),
        helper.make_node("Sub", ["one", "least"], ["room"]),
        helper.make_node("Ceil", ["room"], ["room_up"]),
        helper.make_node("Cast", ["room_up"], ["any_room"], to=TensorProto.INT32),
        helper.make_node("Mul", ["any_room", "two"], ["twice"]),
        helper.make_node("Sub", ["twice", "one_int"], ["divisor"]),
        helper.make_node("Div", ["least_int", "divisor"], ["quotient"]),
        helper.make_node("Cast", ["quotient"], ["quotient_f"], to=TensorProto.FLOAT),
        helper.make_node("Sub", ["quotient_f", "quotient_f"], ["nothing"]),
        helper.make_node("Unsqueeze", ["nothing", "last_axis"], ["nothing_2"]),
        helper.make_node("Add", ["logits", "nothing_2"], ["output"]),
    ]
    axes = {"frames_axis": [2], "both_axes": [1, 2], "last_axis": [1]}
    stored = [numpy_helper.from_array(value, key) for key, value in constants.items()]
    stored += [numpy_helper.from_array(np.array(value, np.int64), key) for key, value in axes.items()]
    graph = helper.make_graph(
        nodes,
        "tones",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["batch", *LOG_MEL.shape])],
        [helper.make_tensor_value_info("output", TensorProto.FLOAT, ["batch", len(centres)])],
        stored,
    )
    folder.mkdir(parents=True, exist_ok=True)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9, producer_name=name)
    onnx.save(model, folder / "model.onnx")
    labels = tuple(sorted(centres))
    assert labels == tuple(centres)
    member = Member(
        name="tones",
        file="model.onnx",
        digest=file_digest(folder / "model.onnx"),
        feature_fingerprint=LOG_MEL.fingerprint,
        labels=labels,
        activation=activation,
        licence="CC0",
    )
    species = tuple(Species(label=one, scientific=f"Tonus {one}", en=f"{one} tone", es=f"tono {one}", taxon="Aves") for one in labels)
    return write_release(
        folder,
        Release(
            name=name,
            labels=species,
            features={LOG_MEL.fingerprint: LOG_MEL},
            members=(member,),
            created_at=datetime.now(UTC).isoformat(),
        ),
    )


def _band_of(centres: dict[str, float]) -> dict[str, int]:
    """The mel band in which a tone is loudest, found by the features themselves."""
    return {label: int(LOG_MEL.compute(tone(5.0, hertz))[0].mean(axis=1).argmax()) for label, hertz in centres.items()}


class Stack:
    """A whole stack of its own, driven by the command line as a user drives it."""

    def __init__(self, folder: Path, base: int, **settings: str) -> None:
        self.settings = Settings(data_dir=folder, port_base=base)
        self.environment = {k: v for k, v in os.environ.items() if not k.startswith("SOUNDSCAPE_")}
        self.environment |= {"SOUNDSCAPE_DATA_DIR": str(folder), "SOUNDSCAPE_PORT_BASE": str(base)}
        self.environment |= {f"SOUNDSCAPE_{name.upper()}": value for name, value in settings.items()}
        self.gateway_url = self.settings.url(Port.GATEWAY)
        self.key = ""

    def run(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run `soundscape …` on this stack."""
        done = subprocess.run([COMMAND, *arguments], env=self.environment, capture_output=True, text=True, timeout=600, check=False)
        said = f"soundscape {' '.join(arguments)}: {done.returncode}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
        assert not check or done.returncode == 0, said
        return done

    def status(self) -> dict[str, dict[str, Any]]:
        """`soundscape status --json`, by name."""
        return {row["name"]: row for row in json.loads(self.run("status", "--json", check=False).stdout)}

    def audit(self) -> dict[str, int]:
        """`soundscape audit --json`, once nothing waits any more."""

        def settled() -> dict[str, int] | None:
            said: dict[str, int] = json.loads(self.run("audit", "--json", check=False).stdout.splitlines()[-1])
            return said if said["waiting"] == 0 else None

        found: dict[str, int] = wait_for(settled, "audit with nothing waiting", 180.0)
        return found

    def post(self, body: bytes, *, kind: str = "audio/ogg", headers: dict[str, str] | None = None, **query: str | int) -> httpx.Response:
        """POST /v1/clips with this stack's key."""
        asked = {"X-API-Key": self.key, "Content-Type": kind} | (headers or {})
        return httpx.post(f"{self.gateway_url}/v1/clips", content=body, params={**query}, headers=asked, timeout=60.0)


@contextmanager
def running_stack(folder: Path, **settings: str) -> Iterator[Stack]:
    """A stack that is up, with the release `tones` on site `test` and a key for it; down at the end, whatever happened."""
    stack = Stack(folder, free_base(), **settings)
    try:
        stack.run("up")
        tone_release(stack.settings.releases / "tones", "tones")
        stack.run("deploy", "tones", "--site", "test")
        stack.key = stack.run("key", "create", "tester", "--site", "test").stdout.split()[-1]
        yield stack
    finally:
        stack.run("down", check=False)


def free_base(first: int = 24000, step: int = 50) -> int:
    """A port base whose ports are all free, outside Ray's and the ephemeral ranges."""
    for base in range(first, 30000, step):
        if all(_free(base + offset) for offset in range(45)):
            return base
    raise AssertionError("no free range of ports between 24000 and 30000")


def _free(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) != 0
