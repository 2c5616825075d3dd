"""Perch by path, tried on files as small as its interface: what is cut out of them, and what is refused. Its real weights are not here."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from soundscape.errors import Invalid
from soundscape.settings import get_settings
from trainer.members import graft, perch
from trainer.members.birdnet import interpreter
from trainer.members.body import body_of, missing
from trainer.members.embed import run
from trainer.members.graft import Head
from trainer.members.models import PERCH_HEAD

SAMPLES, WIDE = 160_000, 1280
SOUND = np.random.default_rng(0).standard_normal((3, 1, SAMPLES)).astype(np.float32)


def stand_in(names: tuple[str, str] = ("embedding", "label"), batch: int | str = "batch", opset: int = 17, samples: int = SAMPLES) -> bytes:
    """ONNX with Perch's interface: sound to an embedding (of every 125th sample) and to labels."""
    every = np.arange(0, 125 * WIDE, 125)
    weight = np.random.default_rng(1).standard_normal((WIDE, WIDE + 7)).astype(np.float32)
    nodes = [
        helper.make_node("Gather", ["inputs", "every"], [names[0]], axis=1),
        helper.make_node("MatMul", [names[0], "weight"], [names[1]]),
    ]
    graph = helper.make_graph(
        nodes,
        "perch",
        [helper.make_tensor_value_info("inputs", TensorProto.FLOAT, [batch, samples])],
        [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, [batch, wide])
            for name, wide in zip(names, (WIDE, WIDE + 7), strict=True)
        ],
        [numpy_helper.from_array(every, "every"), numpy_helper.from_array(weight, "weight")],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    body: bytes = made.SerializeToString()
    return body


def stand_in_tflite(wide: int = WIDE) -> bytes:
    """TFLite with Perch's interface: sound to an embedding, and a fully connected layer on it to labels; both are outputs."""
    from ai_edge_litert import schema_py_generated as schema

    model, graph = schema.ModelT(), schema.SubGraphT()
    model.version, model.subgraphs, model.buffers, graph.tensors = 3, [graph], [schema.BufferT()], []

    def tensor(name: str, shape: tuple[int, ...], values: np.ndarray | None = None) -> int:
        made = schema.TensorT()
        made.name, made.shape = name, np.array(shape, np.int32)
        made.type = schema.TensorType.FLOAT32 if values is None or values.dtype == np.float32 else schema.TensorType.INT32
        if values is not None:
            made.buffer = len(model.buffers)
            kept = schema.BufferT()
            kept.data = np.frombuffer(values.tobytes(), np.uint8)
            model.buffers.append(kept)
        graph.tensors.append(made)
        return len(graph.tensors) - 1

    sound = tensor("inputs", (1, SAMPLES))
    slices = [tensor(name, (2,), np.array(values, np.int32)) for name, values in
              (("begin", (0, 0)), ("end", (1, 125 * wide)), ("strides", (1, 125)))]  # fmt: skip
    embedding, labels = tensor("embedding", (1, wide)), tensor("label", (1, 7))
    weight = tensor("weight", (7, wide), np.random.default_rng(1).standard_normal((7, wide)).astype(np.float32))
    bias = tensor("bias", (7,), np.zeros(7, np.float32))
    operators = []
    layers = (
        ("StridedSliceOptions", "STRIDED_SLICE", [sound, *slices], embedding),
        ("FullyConnectedOptions", "FULLY_CONNECTED", [embedding, weight, bias], labels),
    )
    for n, (options, kind, inputs, output) in enumerate(layers):
        code, one = schema.OperatorCodeT(), schema.OperatorT()
        code.builtinCode = code.deprecatedBuiltinCode = getattr(schema.BuiltinOperator, kind)
        one.opcodeIndex, one.inputs, one.outputs = n, inputs, [output]
        one.builtinOptionsType, one.builtinOptions = getattr(schema.BuiltinOptions, options), getattr(schema, f"{options}T")()
        operators.append((code, one))
    model.operatorCodes, graph.operators = [code for code, _ in operators], [one for _, one in operators]
    graph.inputs, graph.outputs = [sound], [embedding, labels]
    return graft.written(model)


@pytest.fixture
def at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where the setting says that Perch lies."""
    monkeypatch.setenv("SOUNDSCAPE_PERCH", str(path := tmp_path / "perch.onnx"))
    get_settings.cache_clear()
    yield path
    get_settings.cache_clear()


@pytest.mark.parametrize("opset", [17, 18])
def test_a_head_answers_on_the_embedding_in_batches_and_the_labels_are_cut_off(at: Path, opset: int) -> None:
    import onnxruntime

    at.write_bytes(stand_in(opset=opset))
    body = body_of(PERCH_HEAD)
    head = Head(np.random.default_rng(2).standard_normal((4, WIDE)).astype(np.float32), np.ones(4, np.float32))
    served = body.served(head)
    session = onnxruntime.InferenceSession(served, providers=["CPUExecutionProvider"])
    (output,) = session.run(None, {session.get_inputs()[0].name: SOUND})
    np.testing.assert_allclose(output, SOUND[:, 0, : 125 * WIDE : 125] @ head.weight.T + 1, atol=1e-3)
    assert np.array_equal(body.head_of(served).weight, head.weight)
    assert not any(one.name.endswith("weight") and one.name != "head.weight" for one in onnx.load_from_string(served).graph.initializer)


def test_the_embedding_is_found_by_size_whatever_it_is_called() -> None:
    found = onnx.load_from_string(perch.onnx_embedder(stand_in(("output_1", "output_0"))))
    assert [one.name for one in found.graph.output] == ["embedding"]


@pytest.mark.parametrize(
    ("made", "says"),
    [
        (stand_in(batch=1), "the batch free"),
        (stand_in(samples=SAMPLES * 2), r"hears \[0, 320000\]"),
        (b"no model", "no ONNX model"),
        (b"", "has no input"),
    ],
)
def test_another_interface_is_refused_in_one_sentence(at: Path, made: bytes, says: str) -> None:
    at.write_bytes(made)
    assert missing(PERCH_HEAD) and "\n" not in missing(PERCH_HEAD)
    with pytest.raises(Invalid, match=says):
        body_of(PERCH_HEAD)


def test_a_head_takes_the_place_of_the_labels_of_a_tflite_file(at: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = at.with_suffix(".tflite")
    monkeypatch.setenv("SOUNDSCAPE_PERCH", str(file))
    get_settings.cache_clear()
    file.write_bytes(stand_in_tflite())
    body = body_of(PERCH_HEAD)
    head = Head(np.random.default_rng(2).standard_normal((4, WIDE)).astype(np.float32), np.ones(4, np.float32))
    embedding = SOUND[:, 0, : 125 * WIDE : 125]
    for name, made, expected in (("cut", body.embedder(), embedding), ("served", body.served(head), embedding @ head.weight.T + 1)):
        (tmp_path / f"{name}.tflite").write_bytes(made)
        np.testing.assert_allclose(run(interpreter(tmp_path / f"{name}.tflite"), SOUND)[:, 0], expected, atol=1e-3)


def test_a_tflite_file_that_no_head_fits_says_so() -> None:
    with pytest.raises(Invalid, match=r"no head can take its place; give Perch as \.onnx"):
        perch.tflite_ending_in_labels(stand_in_tflite(wide=64))


def test_two_outputs_that_could_be_the_embedding_are_told() -> None:
    model = onnx.load_from_string(stand_in())
    del model.graph.output[:]
    model.graph.output.extend(helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", WIDE]) for name in ("one", "two"))
    with pytest.raises(Invalid, match=r"cannot be told: one \(0, 1280\), two"):
        perch.onnx_embedder(model.SerializeToString())


def test_a_folder_and_a_file_of_another_kind_are_refused_with_what_to_do(at: Path) -> None:
    at.mkdir()
    assert "is a SavedModel, which only TensorFlow reads" in missing(PERCH_HEAD) and "tf2onnx" in missing(PERCH_HEAD)


def test_it_is_left_out_where_nothing_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SOUNDSCAPE_PERCH", raising=False)
    get_settings.cache_clear()
    assert "set SOUNDSCAPE_PERCH" in missing(PERCH_HEAD)
    get_settings.cache_clear()
