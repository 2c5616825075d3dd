"""A member's model file opened in this process: every runtime that the model server's runner has (model_repo/runner), and a GPU's."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from soundscape.errors import Invalid, Reason
from soundscape.release import GraphLevel

Float32 = npt.NDArray[np.float32]
Run = Callable[[Float32], Float32]
"""Outputs float32 (windows, outputs) of a batch float32 (windows, *shape), as the file gives them: before any activation."""

CPU = "CPUExecutionProvider"
LEVELS: dict[GraphLevel, str] = {
    "all": "ORT_ENABLE_ALL", "extended": "ORT_ENABLE_EXTENDED", "basic": "ORT_ENABLE_BASIC", "disabled": "ORT_DISABLE_ALL"
}  # fmt: skip
"""ONNX Runtime's names of how far it rewrites a graph."""
NAMED = {"onnx": "an ONNX", "litert": "a LiteRT", "torchscript": "a TorchScript", "pytorch": "an exported PyTorch", "openvino": "an ONNX"}


def open_model(path: Path, runtime: str, threads: int, graph_level: GraphLevel = "all", provider: str = CPU) -> Run:
    """Open a model file. `provider` is one of ONNX Runtime's.

    Raises Invalid (release-invalid): the runtime or the provider is not to be had here, or the file is none of its models.
    """
    try:
        if runtime == "onnx":
            return _onnx(path, threads, graph_level, provider)
        if runtime == "litert":
            return _litert(path, threads)
        if runtime in ("torchscript", "pytorch"):
            return _torch(path, threads, script=runtime == "torchscript")
        if runtime == "openvino":
            return _openvino(path, threads)
    except ImportError as error:
        what = f"Runtime {runtime} needs {error.name}, which is not installed here; install it, or take another form of the model"
        raise Invalid(Reason.RELEASE_INVALID, f"{what}.") from error
    except Invalid:
        raise
    except Exception as error:  # each runtime has an exception for each way in which a file can be none
        what = f"{path.name} cannot be loaded as {NAMED[runtime]} model ({type(error).__name__}); train the release anew."
        raise Invalid(Reason.RELEASE_INVALID, what) from error
    raise Invalid(Reason.RELEASE_INVALID, f"{path.name} runs on {runtime}, which is not known here; there are {', '.join(NAMED)}.")


def _onnx(path: Path, threads: int, graph_level: GraphLevel, provider: str) -> Run:
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads, options.log_severity_level = threads, 1, 3
    options.graph_optimization_level = getattr(ort.GraphOptimizationLevel, LEVELS[graph_level])
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    if provider != CPU:
        ort.preload_dlls()  # CUDA's libraries lie in packages, where no loader looks
    session = ort.InferenceSession(str(path), options, providers=[provider])
    if session.get_providers()[0] != provider:  # it goes to the processor by itself, and says so in a log alone
        raise Invalid(Reason.RELEASE_INVALID, f"ONNX Runtime's {provider} does not start here.")
    name = session.get_inputs()[0].name

    def run(batch: Float32) -> Float32:
        outputs: Float32 = session.run(None, {name: batch})[0]
        return outputs

    return run


def _litert(path: Path, threads: int) -> Run:
    """Each window is some chunks of sound, and its output the highest of them."""
    from ai_edge_litert.interpreter import Interpreter

    model: Any = Interpreter(model_path=str(path), num_threads=threads)
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


def _torch(path: Path, threads: int, script: bool) -> Run:
    import torch
    import torch.export

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # TorchScript is deprecated, and still what the oldest server takes
        load: Callable[..., Any] = torch.jit.load if script else torch.export.load
        model = load(str(path)) if script else load(path).module()

    def run(batch: Float32) -> Float32:
        others = torch.get_num_threads()
        torch.set_num_threads(threads)  # of the process: what else it does with PyTorch keeps its own number
        try:
            with torch.inference_mode():
                outputs: Float32 = model(torch.tensor(batch)).numpy()
        finally:
            torch.set_num_threads(others)
        return outputs

    return run


def _openvino(path: Path, threads: int) -> Run:
    import openvino

    core = openvino.Core()
    how = {"INFERENCE_NUM_THREADS": threads, "NUM_STREAMS": 1, "INFERENCE_PRECISION_HINT": "f32"}
    model = core.compile_model(core.read_model(path), "CPU", how)

    def run(batch: Float32) -> Float32:
        outputs: Float32 = model(batch)[0].copy()  # its own memory is written again by the next call
        return outputs

    return run
