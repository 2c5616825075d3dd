"""A trained network to ONNX files that are served: float32, held to PyTorch's answers, and static int8."""

from __future__ import annotations

import logging
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from soundscape.errors import Broken
from soundscape.features import FeatureSpec
from trainer.training.learn import predict

Float32 = npt.NDArray[np.float32]

INPUT, OUTPUT = "input", "output"
OPSET = 17
PARITY = 1e-3
"""Largest difference in logits between PyTorch and ONNX Runtime: other orders of summation, nothing more."""
FRONT_END = "/mels/"
CALIBRATION = 256
"""Windows that the ranges of int8 are taken from."""


def export(net: nn.Module, path: Path, spec: FeatureSpec, windows: Float32) -> float:
    """Write the network as ONNX: `input` float32 (batch, n_mels, frames) to `output` logits (batch, labels).

    Returns the largest difference to PyTorch on `windows`; raises Broken if it is above PARITY.
    """
    net = net.eval().to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    with warnings.catch_warnings(), torch.inference_mode():
        warnings.simplefilter("ignore")  # the exporter deprecates itself; its successor wants a package of its own
        torch.onnx.export(
            net, (torch.zeros(2, *spec.shape),), str(path), input_names=[INPUT], output_names=[OUTPUT], opset_version=OPSET,
            dynamic_axes={INPUT: {0: "batch"}, OUTPUT: {0: "batch"}}, dynamo=False,
        )  # fmt: skip
    some = windows[:32]
    difference = float(np.abs(run(path, some) - predict(net, some)).max())
    one = float(np.abs(run(path, some[:1]) - predict(net, some[:1])).max())
    if max(difference, one) > PARITY:
        raise Broken(f"The ONNX export answers otherwise than PyTorch (logits differ by {max(difference, one):.2g}).")
    return max(difference, one)


def quantize(source: Path, target: Path, windows: Float32, keep: tuple[str, ...] = ()) -> None:
    """Write an int8 form: static, QDQ, per channel, ranges from real windows; nodes of operators in `keep` stay in float32.

    So does a network's own front end (its part `mels`), because a spectrum's power spans more than 8 bits, and the layer that answers.
    Weights have 7 bits (`reduce_range`): with 8, sums of products saturate on x86 processors without VNNI, and the same file answers
    otherwise there (docs/decisions/0013-forms.md).
    """
    import onnx
    from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self._batches: Iterator[Float32] = iter(np.array_split(windows[:CALIBRATION], max(1, min(len(windows), CALIBRATION) // 16)))

        def get_next(self) -> dict[str, Float32] | None:
            batch = next(self._batches, None)
            return None if batch is None else {INPUT: batch}

    with _quiet(), tempfile.TemporaryDirectory() as here:
        folded = Path(here) / "folded.onnx"
        quant_pre_process(str(source), str(folded), skip_symbolic_shape=True)
        nodes = [
            node.name for node in onnx.load(str(folded)).graph.node
            if node.op_type in keep or node.name.startswith(FRONT_END) or OUTPUT in node.output
        ]  # fmt: skip
        quantize_static(
            str(folded), str(target), Reader(), quant_format=QuantFormat.QDQ, per_channel=True, reduce_range=True, nodes_to_exclude=nodes,
            activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8, calibrate_method=CalibrationMethod.MinMax,
        )  # fmt: skip


@contextmanager
def _quiet() -> Iterator[None]:
    level = logging.getLogger().level
    logging.getLogger().setLevel(logging.ERROR)  # the quantizer warns, at the root, of what is done here
    try:
        yield
    finally:
        logging.getLogger().setLevel(level)


def quantize_dynamic(source: Path, target: Path) -> None:
    """Write an int8 form whose ranges are taken anew from each batch: it needs no real windows, and pays for that when it runs."""
    from onnxruntime.quantization import QuantType
    from onnxruntime.quantization import quantize_dynamic as write

    with _quiet():
        write(str(source), str(target), weight_type=QuantType.QUInt8)  # other weights no convolution of its processor provider takes


def run(path: Path, windows: Float32, batch: int = 32) -> Float32:
    """Logits of an ONNX file, float32 (windows, labels), from windows float32 (windows, n_mels, frames)."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = 2
    options.log_severity_level = 3
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    parts: list[Any] = [session.run([OUTPUT], {INPUT: windows[n : n + batch]})[0] for n in range(0, len(windows), batch)]
    return np.concatenate(parts)


def sigmoid(logits: Float32) -> Float32:
    """Probabilities of logits."""
    return np.asarray(1.0 / (1.0 + np.exp(-logits.clip(-50, 50))), np.float32)
