"""An ONNX model of embeddings with a head of our own at its end, as trainer/graft.py does it with a TFLite file.

The model has the output `embedding`, float32 (batch, chunks, numbers), and may have `events`, logits float32 (batch, events).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from soundscape.errors import Invalid, Reason
from trainer.graft import Head

EMBEDDING, EVENTS, OUTPUT = "embedding", "events", "output"
WEIGHT, BIAS = "head.weight", "head.bias"


def with_head(body: bytes, head: Head) -> bytes:
    """The model with one output, logits float32 (batch, labels + events): of a label the highest of its chunks.

    Raises Invalid if the model has no such output, or the head is for another embedding.
    """
    from onnx import TensorProto, helper, numpy_helper

    model = _read(body)
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
            helper.make_node("ReduceMax", ["head.chunks"], [labels], axes=[1], keepdims=0),
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


def head_of(body: bytes) -> Head:
    """The head that `with_head` put there. Raises Invalid if there is none."""
    from onnx import numpy_helper

    found = {one.name: numpy_helper.to_array(one) for one in _read(body).graph.initializer if one.name in (WEIGHT, BIAS)}
    if len(found) != 2:
        raise Invalid(Reason.BAD_REQUEST, "The ONNX model does not end in a head of ours.")
    return Head(np.ascontiguousarray(found[WEIGHT].T, np.float32), found[BIAS].astype(np.float32))


def _read(body: bytes) -> Any:
    import onnx

    try:
        return onnx.load_model_from_string(body)
    except Exception as error:  # protobuf's DecodeError, which comes without types
        raise Invalid(Reason.BAD_REQUEST, "The file is no ONNX model.") from error
