"""BirdNET's model with another end: its embedding, or a head of our own in the place of its 6,522 species.

The last operation of the file is a fully connected layer on the embedding (1,024 numbers). With other weights in that place the file is
served, probed and run like BirdNET itself. The result is a work derived from BirdNET and keeps its licence.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from soundscape.errors import Invalid, Reason

Float32 = npt.NDArray[np.float32]

_FILE = b"TFL3"
"""TFLite's file identifier."""


class Head(NamedTuple):
    """A linear layer: weight float32 (labels, embedding), bias float32 (labels,)."""

    weight: Float32
    bias: Float32

    @classmethod
    def none(cls) -> Head:
        """A head of no label, which any other can be put before."""
        return cls(np.zeros((0, 0), np.float32), np.zeros(0, np.float32))

    def beside(self, other: Head) -> Head:
        """This head's labels, then those of another one on the same embedding."""
        if not len(other.bias):
            return self
        return Head(np.concatenate([self.weight, other.weight]), np.concatenate([self.bias, other.bias]))


def head_of(body: bytes) -> Head:
    """The last layer of a TFLite file. Raises Invalid if it does not end in a fully connected one."""
    model = read(body)
    graph, last = _last(model)
    weight, bias = (_values(model, graph.tensors[index]) for index in last.inputs[1:3])
    return Head(weight, bias)


def embedder(body: bytes) -> bytes:
    """The same file, ending in the embedding: float32 (chunks, embedding). Raises Invalid as `head_of`."""
    model = read(body)
    graph, last = _last(model)
    for index in last.inputs[1:3]:
        _empty(model, graph, graph.tensors[index].buffer)
    graph.operators = [one for one in graph.operators if one is not last]
    graph.outputs = [last.inputs[0]]
    return written(model)


def with_head(body: bytes, head: Head) -> bytes:
    """The same file, its last layer replaced: logits float32 (chunks, labels).

    Raises Invalid as `head_of`, or if the head is for another embedding.
    """
    model = read(body)
    graph, last = _last(model)
    wide = graph.tensors[last.inputs[1]].shape[1]
    if head.weight.shape != (len(head.bias), wide):
        raise Invalid(Reason.BAD_REQUEST, f"The head is {head.weight.shape} for {len(head.bias)} labels; the embedding has {wide} numbers.")
    for index, values in zip(last.inputs[1:3], head, strict=True):
        tensor = graph.tensors[index]
        _empty(model, graph, tensor.buffer)
        tensor.buffer, tensor.shape = len(model.buffers), np.array(values.shape, np.int32)
        model.buffers.append(_buffer(values))
    out = graph.tensors[last.outputs[0]]
    out.shape = np.array([1, len(head.bias)], np.int32)
    if out.shapeSignature is not None:
        out.shapeSignature = np.array([-1, len(head.bias)], np.int32)
    return written(model)


def read(body: bytes) -> Any:
    """The model in a TFLite file. Raises Invalid if it is none."""
    from ai_edge_litert import schema_py_generated as schema

    if body[4:8] != _FILE:
        raise Invalid(Reason.BAD_REQUEST, "The file is no TFLite model.")
    return schema.ModelT.InitFromObj(schema.Model.GetRootAsModel(bytearray(body), 0))


def _last(model: Any) -> tuple[Any, Any]:
    """The graph and the operation that gives its output."""
    from ai_edge_litert import schema_py_generated as schema

    graph = model.subgraphs[0]
    last = next((one for one in graph.operators if graph.outputs[0] in one.outputs), None)
    wanted = schema.BuiltinOperator.FULLY_CONNECTED
    if len(graph.outputs) != 1 or last is None or model.operatorCodes[last.opcodeIndex].builtinCode != wanted or len(last.inputs) < 3:
        raise Invalid(Reason.BAD_REQUEST, "The model does not end in one fully connected layer; its embedding is not where BirdNET has it.")
    return graph, last


def _values(model: Any, tensor: Any) -> Float32:
    data = np.asarray(model.buffers[tensor.buffer].data, np.uint8)
    return data.view(np.float32).reshape(tensor.shape).copy()


def _empty(model: Any, graph: Any, buffer: int) -> None:
    """Let go of a buffer's bytes, unless another tensor has them too."""
    if sum(tensor.buffer == buffer for tensor in graph.tensors) == 1:
        model.buffers[buffer].data = None


def _buffer(values: Float32) -> Any:
    from ai_edge_litert import schema_py_generated as schema

    made = schema.BufferT()
    made.data = np.frombuffer(np.ascontiguousarray(values, np.float32).tobytes(), np.uint8)
    return made


def written(model: Any) -> bytes:
    """A TFLite file of a model."""
    import flatbuffers

    builder = flatbuffers.Builder(1 << 20)
    builder.Finish(model.Pack(builder), _FILE)
    return bytes(builder.Output())
