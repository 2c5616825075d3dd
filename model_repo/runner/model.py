"""Triton's Python backend for every member: ONNX Runtime or LiteRT, one runner, the same names, inputs and outputs.

Runs in the model server's own environment, so it imports nothing of this project. The deployer copies it beside the model file and
writes `config.pbtxt` from `model_repo/config.pbtxt.in`.
"""

import json
from pathlib import Path

import numpy as np
import triton_python_backend_utils as pb_utils


class OnnxModel:
    """ONNX Runtime, one session of `threads` threads."""

    def __init__(self, path, threads):
        import onnxruntime

        options = onnxruntime.SessionOptions()
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

    def __init__(self, path, threads):
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


RUNTIMES = {"onnx": OnnxModel, "litert": LiteRtModel}


class TritonPythonModel:
    """One instance of one member."""

    def initialize(self, args):
        """Load the model, and infer once so that the first clip does not pay for it."""
        config = json.loads(args["model_config"])
        said = {name: item["string_value"] for name, item in config["parameters"].items()}
        path = Path(args["model_repository"]) / args["model_version"] / said["file"]
        self._sigmoid = said["activation"] == "sigmoid"
        self._model = RUNTIMES[said["runtime"]](str(path), int(said["threads"]))
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
