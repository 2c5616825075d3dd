"""How one file is heard in a bare loop, in a process of its own: decode, features, inference, and the CPU time of each."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from soundscape.audio import SAMPLE_RATE, Float32, decode, resample
from soundscape.features import LOG_MEL

BIRDNET_RATE, BIRDNET_S = 48_000, 3
"""What BirdNET 2.4 hears: 3 s at 48 kHz."""


class Way(NamedTuple):
    """A model file (ONNX, or LiteRT where it ends in .tflite), and what makes its rows, float32 (rows, *shape), of mono sound at 32 kHz."""

    model: Path
    features: Callable[[Float32], Float32] = LOG_MEL.compute


class Heard(NamedTuple):
    """Seconds of sound, and CPU seconds of this process in each step."""

    sound: float
    decode: float
    features: float
    inference: float


def for_birdnet(wave: Float32) -> Float32:
    """BirdNET's rows as BirdNET-Analyzer cuts them: 3 s at 48 kHz one after the other, the last padded; float32 (rows, 144,000)."""
    sound, length = resample(wave, SAMPLE_RATE, BIRDNET_RATE), BIRDNET_RATE * BIRDNET_S
    rows = max(1, -(-sound.size // length))
    return np.pad(sound, (0, rows * length - sound.size)).reshape(rows, length)


def new_hearing(way: Way, threads: int, batch: int) -> Callable[[bytes], Heard]:
    """What hears a file, its model loaded: at most `batch` rows in one inference of `threads` threads."""
    import threadpoolctl

    threadpoolctl.threadpool_limits(threads)  # or the matrix product of each process takes every core
    infer = _litert(way.model, threads) if way.model.suffix == ".tflite" else _onnx(way.model, threads)

    def hear(body: bytes) -> Heard:
        times = [time.process_time()]
        wave = decode(body)
        times.append(time.process_time())
        rows = way.features(wave)
        times.append(time.process_time())
        logits = [infer(rows[first : first + batch]) for first in range(0, len(rows), batch)]
        _ = 1.0 / (1.0 + np.exp(-np.clip(np.concatenate(logits), -30.0, 30.0)))
        times.append(time.process_time())
        return Heard(wave.size / SAMPLE_RATE, *np.diff(times).tolist())

    return hear


def _onnx(model: Path, threads: int) -> Callable[[Float32], Any]:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    session = onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return lambda rows: session.run(None, {name: rows})[0]


def _litert(model: Path, threads: int) -> Callable[[Float32], Any]:
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_path=str(model), num_threads=threads)
    into, out = interpreter.get_input_details()[0]["index"], interpreter.get_output_details()[0]["index"]
    ready: tuple[int, ...] = ()

    def infer(rows: Float32) -> Any:
        nonlocal ready
        if rows.shape != ready:
            interpreter.resize_tensor_input(into, rows.shape)
            interpreter.allocate_tensors()
            ready = rows.shape
        interpreter.set_tensor(into, rows)
        interpreter.invoke()
        return interpreter.get_tensor(out)

    return infer
