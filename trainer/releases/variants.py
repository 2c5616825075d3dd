"""The forms in which a trained network can be served: which there are, how each file is made, and how far it may differ from PyTorch."""

from __future__ import annotations

import pickle
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from torch import nn

from soundscape.errors import Invalid, Reason
from soundscape.features import FeatureSpec
from soundscape.release import GraphLevel, LoadedRelease, Member
from trainer.members.models import MODELS, build
from trainer.releases import quantize, thresholds
from trainer.releases.package import WEIGHTS
from trainer.releases.runtimes import CPU, LEVELS, Run, open_model
from trainer.training.learn import begin_with

Float32 = npt.NDArray[np.float32]

BATCHES = (1, 4, 12)
"""Windows at once: a guide's clip, what the server waits for, a recorder's minute."""
LARGEST_BATCH = 64
"""That an exported program takes; the model server asks for 16."""
BOUNDS = {"fp32": 1e-3, "int8": thresholds.LOWEST}
"""Largest difference in probability from PyTorch, by precision: in float32 other orders of summation and nothing more; in int8 the lowest
threshold that is ever chosen, so that no species is named where PyTorch hears nothing at all."""
CUDA, TENSORRT = "CUDAExecutionProvider", "TensorrtExecutionProvider"

Form = Literal["program.pt2", "script.pt", "fp32.onnx", "int8.onnx", "int8-dynamic.onnx"]
"""How a member's file ends, after its name and a hyphen."""


@dataclass(frozen=True)
class Variant:
    """One way to serve a network."""

    name: str
    runtime: Literal["onnx", "torchscript", "pytorch", "openvino"]
    form: Form
    precision: Literal["fp32", "int8"] = "fp32"
    graph_level: GraphLevel = "all"
    provider: str = CPU
    """ONNX Runtime's; the model server of the local stack has CPU."""

    @property
    def bound(self) -> float:
        """Largest difference in probability that it may have from PyTorch."""
        return BOUNDS[self.precision]

    @property
    def on_gpu(self) -> bool:
        """Whether it needs a GPU."""
        return self.provider != CPU

    def missing(self) -> str:
        """Why it cannot be had on this machine; empty if it can."""
        if self.runtime == "openvino":
            try:
                import openvino  # noqa: F401
            except ImportError:
                return "OpenVINO is not installed here (uv pip install openvino)"
        if self.on_gpu:
            import torch

            if not torch.cuda.is_available():
                return "no NVIDIA GPU answers here"
        return ""

    def open(self, path: Path, threads: int) -> Run:
        """Its model, giving logits. Raises Invalid as `open_model`."""
        return open_model(path, self.runtime, threads, self.graph_level, self.provider)


PYTORCH = Variant("pytorch", "pytorch", "program.pt2")
VARIANTS = (
    PYTORCH,
    Variant("torchscript", "torchscript", "script.pt"),
    *(Variant(f"onnx-{level}", "onnx", "fp32.onnx", graph_level=level) for level in LEVELS),
    Variant("onnx-int8-dynamic", "onnx", "int8-dynamic.onnx", "int8"),
    Variant("onnx-int8-static", "onnx", "int8.onnx", "int8"),
    Variant("openvino", "openvino", "fp32.onnx"),
    Variant("openvino-int8-static", "openvino", "int8.onnx", "int8"),
    Variant("onnx-cuda", "onnx", "fp32.onnx", provider=CUDA),
    Variant("onnx-tensorrt", "onnx", "fp32.onnx", provider=TENSORRT),
)
"""In the order of the table; the first is what all others are held to."""


def weights_of(loaded: LoadedRelease, member: Member) -> Path | None:
    """Where the PyTorch weights of a member lie, if it is a network of ours and they were kept."""
    if member.name not in MODELS:
        return None
    alone = [one.name for one in loaded.release.members if one.name in MODELS] == [member.name]
    places = [loaded.folder / f"{member.name}-{WEIGHTS}", *([loaded.folder / WEIGHTS] if alone else [])]
    return next((path for path in places if path.is_file()), None)


def float32_of(loaded: LoadedRelease, member: Member) -> Path | None:
    """Where the float32 form of an int8 member lies, if training left it beside it."""
    path = loaded.folder / f"{member.file.partition('-int8')[0]}-fp32.onnx"
    return path if member.precision == "int8" and path.name != member.file and path.is_file() else None


def network_of(member: Member, weights: Path) -> nn.Module:
    """The trained network of a member, ready to answer. Raises Invalid if the weights are not its own, or none."""
    import torch

    net = build(member.name, len(member.labels))
    try:
        labels = tuple(torch.load(weights, weights_only=True)["labels"])
        begin_with(net, weights, member.labels)
    except (RuntimeError, KeyError, TypeError, EOFError, pickle.UnpicklingError) as error:
        what = f"{weights} does not hold the weights of a network ({type(error).__name__}); train the release anew."
        raise Invalid(Reason.RELEASE_INVALID, what) from error
    if labels != member.labels:
        what = f"{weights} holds the weights of other labels than {member.name} names; optimize the release that they were made with."
        raise Invalid(Reason.RELEASE_INVALID, what)
    return net.eval()


class Forms:
    """The files of one member's network, each made when it is first asked for; those that the release has are taken as they are."""

    def __init__(self, net: nn.Module, member: Member, spec: FeatureSpec, release: Path, scratch: Path, windows: Float32) -> None:
        """`windows` float32 (windows, *shape) are real ones, for the ranges of int8 and to hold the export to PyTorch."""
        self.net, self.name, self._spec, self._windows = net, member.name, spec, windows
        self._folders = (release, scratch)

    def path(self, form: Form) -> Path:
        """The file. Raises Broken if the ONNX export answers otherwise than PyTorch."""
        kept, made = (folder / f"{self.name}-{form}" for folder in self._folders)
        if kept.is_file():
            return kept
        if not made.is_file():
            makers: dict[Form, Callable[[Path], Any]] = {
                "program.pt2": partial(write_program, self.net, self._spec),
                "script.pt": partial(write_script, self.net, self._spec),
                "fp32.onnx": lambda target: quantize.export(self.net, target, self._spec, self._windows),
                "int8.onnx": lambda target: quantize.quantize(self.path("fp32.onnx"), target, self._windows),
                "int8-dynamic.onnx": lambda target: quantize.quantize_dynamic(self.path("fp32.onnx"), target),
            }
            makers[form](made)
        return made


def write_program(net: nn.Module, spec: FeatureSpec, target: Path) -> None:
    """The network as PyTorch runs it, operation by operation, with its weights: no class of ours is needed to load it."""
    import torch

    example, batch = torch.zeros(2, *spec.shape), torch.export.Dim("batch", min=1, max=LARGEST_BATCH)
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        torch.export.save(torch.export.export(net, (example,), dynamic_shapes=({0: batch},)), target)


def write_script(net: nn.Module, spec: FeatureSpec, target: Path) -> None:
    """The network as TorchScript: traced, and frozen, which folds normalization into the convolutions."""
    import torch

    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # deprecated, and still what the oldest server takes
        traced = torch.jit.trace(net, (torch.zeros(2, *spec.shape),))  # type: ignore[no-untyped-call]
        torch.jit.freeze(traced).save(str(target))
