"""An int8 form answers the same on every processor: no sum of its products can saturate, and the layer that answers is not rounded."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import torch
from torch import nn

from soundscape.features import LOG_MEL
from trainer.releases import quantize

WINDOWS = np.ones((16, *LOG_MEL.shape), np.float32)


class Loud(nn.Module):
    """All weights alike and all sums large: what saturates first."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(1, 8, (4, 4), stride=4, bias=False)
        nn.init.constant_(self.convolution.weight, 1.0)
        self.head = nn.Linear(8, 3)
        nn.init.constant_(self.head.weight, 0.125)
        nn.init.zeros_(self.head.bias)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits."""
        found: torch.Tensor = self.head(self.convolution(x.unsqueeze(1)).mean(dim=(2, 3)))
        return found


def test_no_sum_saturates_and_the_layer_that_answers_stays_in_float32(tmp_path: Path) -> None:
    fp32, int8 = tmp_path / "fp32.onnx", tmp_path / "int8.onnx"
    quantize.export(Loud(), fp32, LOG_MEL, WINDOWS)
    quantize.quantize(fp32, int8, WINDOWS)
    np.testing.assert_allclose(quantize.run(int8, WINDOWS), quantize.run(fp32, WINDOWS), rtol=0.02)
    graph = onnx.load(str(int8)).graph
    weights = [onnx.numpy_helper.to_array(one) for one in graph.initializer if one.data_type == onnx.TensorProto.INT8]
    rounded = [one for one in weights if one.ndim == 4]
    assert rounded and all(one.min() >= -64 and one.max() <= 64 for one in rounded), "255 * 64 * 2 fits 16 bits, 255 * 127 * 2 does not"
    assert not [one for one in weights if one.ndim == 2], "the last layer is not rounded"
