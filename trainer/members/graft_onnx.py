"""An ONNX model of embeddings with a head of our own at its end, as trainer/members/graft.py does it with a TFLite file.

The model has the output `embedding`, float32 (batch, chunks, numbers), and may have `events`, logits float32 (batch, events).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from soundscape.errors import Invalid, Reason
from trainer.members.graft import Head

EMBEDDING, EVENTS, OUTPUT = "embedding", "events", "output"
WEIGHT, BIAS = "head.weight", "head.bias"


def with_head(body: bytes, head: Head) -> bytes:
    """The model with one output, logits float32 (batch, labels + events): of a label the highest of its chunks.

    Raises Invalid if the model has no such output, or the head is for another embedding.
    """
    from onnx import TensorProto, helper, numpy_helper

    model = read(body)
    graph, outputs = model.graph, {one.name: one for one in model.graph.output}
    if EMBEDDING not in outputs:
        raise Invalid(Reason.BAD_REQUEST, f"The ONNX model has no output named {EMBEDDING}; name it so, float32 (batch, chunks, numbers).")
    wide = outputs[EMBEDDING].type.tensor_type.shape.dim[2].dim_value
    if head.weight.shape != (len(head.bias), wide):
        raise Invalid(Reason.BAD_REQUEST, f"The head is {head.weight.shape} for {len(head.bias)} labels; the embedding has {wide} numbers.")
    graph.initializer.extend(
        [
            numpy_helper.from_array(np.ascontiguousarray(head.weight.T, np.float32), WEIGHT),
            numpy_helper.from_array(np.ascontiguousarray(head.bias, np.float32), BIAS),
        ]
    )
    labels = "head.labels" if EVENTS in outputs else OUTPUT
    graph.node.extend(
        [
            helper.make_node("MatMul", [EMBEDDING, WEIGHT], ["head.product"]),
            helper.make_node("Add", ["head.product", BIAS], ["head.chunks"]),
            _highest("head.chunks", labels, model),
        ]
    )
    events = 0
    if EVENTS in outputs:
        events = outputs[EVENTS].type.tensor_type.shape.dim[1].dim_value
        graph.node.append(helper.make_node("Concat", [labels, EVENTS], [OUTPUT], axis=1))
    del graph.output[:]
    graph.output.append(helper.make_tensor_value_info(OUTPUT, TensorProto.FLOAT, ["batch", len(head.bias) + events]))
    written: bytes = model.SerializeToString()
    return written


def _highest(source: str, target: str, model: Any) -> Any:
    """ReduceMax over the chunks: from operator set 18 on its axes are an input."""
    from onnx import helper, numpy_helper

    if next(one.version for one in model.opset_import if one.domain in ("", "ai.onnx")) < 18:
        return helper.make_node("ReduceMax", [source], [target], axes=[1], keepdims=0)
    model.graph.initializer.append(numpy_helper.from_array(np.array([1], np.int64), "head.axes"))
    return helper.make_node("ReduceMax", [source, "head.axes"], [target], keepdims=0)


def head_of(body: bytes) -> Head:
    """The head that `with_head` put there. Raises Invalid if there is none."""
    from onnx import numpy_helper

    found = {one.name: numpy_helper.to_array(one) for one in read(body).graph.initializer if one.name in (WEIGHT, BIAS)}
    if len(found) != 2:
        raise Invalid(Reason.BAD_REQUEST, "The ONNX model does not end in a head of ours.")
    return Head(np.ascontiguousarray(found[WEIGHT].T, np.float32), found[BIAS].astype(np.float32))


def read(body: bytes) -> Any:
    """The model in a file. Raises Invalid if it is none."""
    import onnx

    try:
        return onnx.load_model_from_string(body)
    except Exception as error:  # protobuf's DecodeError, which comes without types
        raise Invalid(Reason.BAD_REQUEST, "The file is no ONNX model.") from error
