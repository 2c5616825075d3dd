"""Triton's Python backend for every member: ONNX Runtime, LiteRT, PyTorch or OpenVINO, one runner, the same names, inputs and outputs.

Runs in the model server's own environment, so it imports nothing of this project. The deployer copies it beside the model file and
writes `config.pbtxt` from `model_repo/config.pbtxt.in`.
"""

import json
import os
import sys
from pathlib import Path

import numpy as np
import triton_python_backend_utils as pb_utils


def borrow():
    """Let packages that this environment lacks (PyTorch, OpenVINO) be found in the product's, which compose/local/triton.py names.

    It comes last on the path: what both have, numpy above all, stays this environment's.
    """
    lent = os.environ.get("MODEL_SERVER_BORROWS", "")
    if lent and lent not in sys.path:
        sys.path.append(lent)


LEVELS = {"disabled": "ORT_DISABLE_ALL", "basic": "ORT_ENABLE_BASIC", "extended": "ORT_ENABLE_EXTENDED", "all": "ORT_ENABLE_ALL"}


class OnnxModel:
    """ONNX Runtime, one session of `threads` threads."""

    def __init__(self, path, threads, graph_level):
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.graph_optimization_level = getattr(onnxruntime.GraphOptimizationLevel, LEVELS[graph_level])
        options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # a waiting thread must not burn a core
        offered = onnxruntime.get_available_providers()
        wanted = [name for name in ("CUDAExecutionProvider", "CPUExecutionProvider") if name in offered]
        self._session = onnxruntime.InferenceSession(path, options, providers=wanted)
        self._input = self._session.get_inputs()[0].name

    def __call__(self, batch):
        """Outputs float32 (windows, labels) of a batch float32 (windows, *shape)."""
        return self._session.run(None, {self._input: batch})[0]


class LiteRtModel:
    """LiteRT on sound: each window is some chunks, the model hears each, and the window's output is the highest of them."""

    def __init__(self, path, threads, graph_level):
        from ai_edge_litert.interpreter import Interpreter

        self._interpreter = Interpreter(model_path=path, num_threads=threads)
        self._input = self._interpreter.get_input_details()[0]["index"]
        self._output = self._interpreter.get_output_details()[0]["index"]
        self._chunks = 0

    def __call__(self, batch):
        """Outputs float32 (windows, labels) of a batch float32 (windows, chunks, samples)."""
        return np.stack([self._window(window) for window in batch])

    def _window(self, window):
        if len(window) != self._chunks:
            self._interpreter.resize_tensor_input(self._input, window.shape)
            self._interpreter.allocate_tensors()
            self._chunks = len(window)
        self._interpreter.set_tensor(self._input, window)
        self._interpreter.invoke()
        return self._interpreter.get_tensor(self._output).max(axis=0)


class TorchModel:
    """PyTorch: a TorchScript file, or an exported program, whose operations run one by one as in training."""

    def __init__(self, path, threads, graph_level):
        borrow()
        import torch

        torch.set_num_threads(threads)
        self._torch, self._model = torch, self.load(torch, path)

    def load(self, torch, path):
        """The file as a callable."""
        import torch.export

        return torch.export.load(path).module()

    def __call__(self, batch):
        """Outputs float32 (windows, labels) of a batch float32 (windows, *shape)."""
        with self._torch.inference_mode():
            return self._model(self._torch.tensor(batch)).numpy()


class ScriptModel(TorchModel):
    """TorchScript."""

    def load(self, torch, path):
        """The file as a callable."""
        return torch.jit.load(path)


class OpenVinoModel:
    """OpenVINO on an ONNX file; in float32 where the file is, although some processors have less exact and faster numbers."""

    def __init__(self, path, threads, graph_level):
        borrow()
        import openvino

        core = openvino.Core()
        how = {"INFERENCE_NUM_THREADS": threads, "NUM_STREAMS": 1, "INFERENCE_PRECISION_HINT": "f32"}
        self._model = core.compile_model(core.read_model(path), "CPU", how)

    def __call__(self, batch):
        """Outputs float32 (windows, labels) of a batch float32 (windows, *shape)."""
        return self._model(batch)[0]


RUNTIMES = {
    "onnx": OnnxModel,
    "litert": LiteRtModel,
    "torchscript": ScriptModel,
    "pytorch": TorchModel,
    "openvino": OpenVinoModel,
}


class TritonPythonModel:
    """One instance of one member."""

    def initialize(self, args):
        """Load the model, and infer once so that the first clip does not pay for it."""
        config = json.loads(args["model_config"])
        said = {name: item["string_value"] for name, item in config["parameters"].items()}
        path = Path(args["model_repository"]) / args["model_version"] / said["file"]
        self._sigmoid = said["activation"] == "sigmoid"
        self._model = RUNTIMES[said["runtime"]](str(path), int(said["threads"]), said["graph_level"])
        shape = [int(size) for size in config["input"][0]["dims"]]
        outputs = self._infer(np.zeros((1, *shape), np.float32))
        labels = int(config["output"][0]["dims"][0])
        if outputs.shape != (1, labels):
            raise pb_utils.TritonModelException(f"the model gives {outputs.shape[1:]} outputs, its release names {labels} labels")

    def execute(self, requests):
        """Answer all requests of a batch with one inference; probabilities float32 (windows, labels) each."""
        inputs = [pb_utils.get_input_tensor_by_name(request, "input").as_numpy() for request in requests]
        outputs = self._infer(np.concatenate(inputs) if len(inputs) > 1 else inputs[0])
        ends = np.cumsum([len(item) for item in inputs])[:-1]
        return [pb_utils.InferenceResponse([pb_utils.Tensor("output", part)]) for part in np.split(outputs, ends)]

    def _infer(self, batch):
        outputs = self._model(batch).astype(np.float32, copy=False)
        return 1.0 / (1.0 + np.exp(-np.clip(outputs, -30.0, 30.0))) if self._sigmoid else outputs
