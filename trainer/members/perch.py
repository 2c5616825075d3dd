"""Perch, given by path: its file cut down to sound in and embedding out, in the form that a head is put on.

Perch (Google Research; Hamer et al. 2023, van Merriënboer et al. 2025) hears 5 s at 32 kHz and gives an embedding of 1,280 (version 1) or
1,536 numbers (version 2). The file is ONNX or TFLite: neither holds gradients, so the head is all that can be trained, and LoRA cannot.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from soundscape.errors import Invalid, Reason
from soundscape.settings import get_settings
from trainer.members import audioset, graft
from trainer.members.graft_onnx import EMBEDDING, read

LICENCE = "Apache-2.0 (Perch, Google Research)"
FEATURES = audioset.FEATURES
WIDE = (1280, 1536)
"""Numbers of the embedding, by version."""
CONVERT = "convert it once with tf2onnx (python -m tf2onnx.convert --saved-model FOLDER --output perch.onnx --opset 17)"


def perch_file() -> Path:
    """Perch's file, .onnx or .tflite. Raises Invalid (bad-request) with the cure for anything else."""
    cure = "Perch as .onnx or .tflite (Kaggle has it: google/bird-vocalization-classifier)"
    path = audioset.given(get_settings().perch, "SOUNDSCAPE_PERCH", "Perch's weights", cure)
    if path.is_dir():
        raise Invalid(Reason.BAD_REQUEST, f"{path} is a SavedModel, which only TensorFlow reads, and that is no part of this; {CONVERT}.")
    if path.suffix not in (".onnx", ".tflite"):
        raise Invalid(Reason.BAD_REQUEST, f"SOUNDSCAPE_PERCH names {path}, which is neither .onnx nor .tflite; {CONVERT}.")
    return path


def onnx_embedder(body: bytes) -> bytes:
    """The ONNX file as `trainer.members.graft_onnx` wants it: `input` float32 (batch, 1, samples) to `embedding` (batch, 1, numbers).

    Raises Invalid if it does not hear 5 s at 32 kHz in batches, or none of its outputs is an embedding.
    """
    import onnx
    from onnx import TensorProto, compose, helper, numpy_helper, utils

    model = read(body)
    if not model.graph.input:
        raise Invalid(Reason.BAD_REQUEST, f"The ONNX file of Perch has no input; {CONVERT}.")
    sound, samples = model.graph.input[0], FEATURES.shape[1]
    shape = _shape(sound)
    if len(shape) != 2 or shape[1] not in (0, samples) or shape[0] == 1:
        what = f"The ONNX file of Perch hears {shape} and not (batch, {samples}) samples, the batch free"
        raise Invalid(Reason.BAD_REQUEST, f"{what}; {CONVERT}.")
    found, wide = _embedding({one.name: _shape(one) for one in model.graph.output})
    cut = compose.add_prefix(utils.Extractor(model).extract_model([sound.name], [found]), "perch/")
    graph, inner, outer = cut.graph, f"perch/{sound.name}", f"perch/{found}"
    for name, wanted in (("perch/flat", (-1, samples)), ("perch/chunk", (-1, 1, wide))):
        graph.initializer.append(numpy_helper.from_array(np.array(wanted, np.int64), name))
    graph.node.insert(0, helper.make_node("Reshape", ["input", "perch/flat"], [inner]))
    graph.node.append(helper.make_node("Reshape", [outer, "perch/chunk"], [EMBEDDING]))
    del graph.input[:], graph.output[:]
    graph.input.append(helper.make_tensor_value_info("input", TensorProto.FLOAT, ["batch", 1, samples]))
    graph.output.append(helper.make_tensor_value_info(EMBEDDING, TensorProto.FLOAT, ["batch", 1, wide]))
    onnx.checker.check_model(cut)
    written: bytes = cut.SerializeToString()
    return written


def tflite_ending_in_labels(body: bytes) -> bytes:
    """The TFLite file with one output, that of the fully connected layer on the embedding, as `trainer.members.graft` wants it.

    Raises Invalid if none of its outputs comes from such a layer: then no head can be put in its place.
    """
    from ai_edge_litert import schema_py_generated as schema

    model = graft.read(body)
    graph = model.subgraphs[0]
    full = schema.BuiltinOperator.FULLY_CONNECTED
    last = [one for one in graph.operators if model.operatorCodes[one.opcodeIndex].builtinCode == full and len(one.inputs) > 2]
    layers = {one.outputs[0]: one for one in last}
    fit = [out for out in graph.outputs if out in layers and graph.tensors[layers[out].inputs[1]].shape[-1] in WIDE]
    if not fit:
        what = "None of the TFLite file's outputs is a fully connected layer on an embedding, so no head can take its place"
        raise Invalid(Reason.BAD_REQUEST, f"{what}; give Perch as .onnx.")
    graph.outputs = [fit[0]]
    return graft.written(model)


def _embedding(outputs: dict[str, list[int]]) -> tuple[str, int]:
    """The output that is the embedding, by its size, by its name where several have that, and its size."""
    fit = [name for name, shape in outputs.items() if len(shape) == 2 and shape[1] in WIDE]
    named = [name for name in fit if "embedding" in name.lower()]
    chosen = named or fit
    if len(chosen) != 1:
        told = ", ".join(f"{name} {tuple(shape)}" for name, shape in outputs.items())
        what = f"Which output of the ONNX file is Perch's embedding cannot be told: {told}"
        raise Invalid(Reason.BAD_REQUEST, f"{what}; it should be (batch, {WIDE[0]} or {WIDE[1]}) and have `embedding` in its name.")
    return chosen[0], outputs[chosen[0]][1]


def _shape(value: Any) -> list[int]:
    """Of an ONNX value; 0 is a dimension that is free."""
    return [one.dim_value for one in value.type.tensor_type.shape.dim]
