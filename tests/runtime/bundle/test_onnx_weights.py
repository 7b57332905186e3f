"""Weights of an ONNX file by name, and what is left of it without them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from magvit_runtime import BundleError
from magvit_runtime.bundle.onnx_weights import read_weights, structure_sha256


def model_of(first: float = 1.0) -> onnx.ModelProto:
    """An initializer, a constant of the graph, and constants in the bodies of two functions."""
    weight = numpy_helper.from_array(np.full((2, 3), first, np.float16), "weight")
    scale = numpy_helper.from_array(np.array([2.5], np.float32), "")
    nodes = [
        helper.make_node("Constant", [], ["scale"], value=scale),
        helper.make_node("One", ["x"], ["y"], domain="magvit"),
    ]
    graph = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [3])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [3])],
        [weight],
    )
    opsets = [helper.make_opsetid("", 21), helper.make_opsetid("magvit", 1)]
    functions = [
        helper.make_function(
            "magvit",
            name,
            ["x"],
            ["y"],
            [
                helper.make_node("Constant", [], ["axes"], value_ints=[1, -2]),
                helper.make_node("Constant", [], ["differs"], value_int=number),
                helper.make_node("Constant", [], ["epsilon"], value_float=0.5),
                helper.make_node("Constant", [], ["steps"], value_floats=[0.5, 2.0]),
                helper.make_node("Identity", ["x"], ["y"]),
            ],
            opsets,
        )
        for number, name in enumerate(("One", "Two"))
    ]
    return helper.make_model(graph, opset_imports=opsets, functions=functions, producer_name="me")


def saved(model: onnx.ModelProto, folder: Path) -> Path:
    onnx.save(model, folder / "model.onnx")
    return folder / "model.onnx"


def test_weights_and_constants_by_name(tmp_path: Path) -> None:
    weights = read_weights(saved(model_of(), tmp_path))
    assert set(weights) == {"weight", "scale", "axes", "epsilon", "steps"}
    assert (weights["weight"].dtype, weights["weight"].shape) == (np.float16, (2, 3))
    for name, expected in (
        ("scale", np.array([2.5], np.float32)),
        ("axes", np.array([1, -2], np.int64)),
        ("epsilon", np.array(0.5, np.float32)),
        ("steps", np.array([0.5, 2.0], np.float32)),
    ):
        np.testing.assert_array_equal(weights[name], expected, strict=True)


def test_other_weights_are_the_same_structure(tmp_path: Path) -> None:
    same = model_of(first=2.0)
    same.producer_version, same.doc_string, same.graph.doc_string = "2", "later", "later"
    assert structure_sha256(saved(model_of(), tmp_path)) == structure_sha256(saved(same, tmp_path))


@pytest.mark.parametrize(
    "change",
    [
        lambda model: model.graph.initializer[0].dims.__setitem__(0, 1),
        lambda model: setattr(model.graph.initializer[0], "name", "another"),
        lambda model: setattr(model.graph.initializer[0], "data_type", TensorProto.FLOAT),
        lambda model: setattr(model.graph.node[1], "op_type", "Two"),
        lambda model: setattr(model.functions[0].node[2].attribute[0], "f", 0.25),
        lambda model: setattr(model.opset_import[0], "version", 22),
    ],
    ids=["shape", "name", "type", "operator", "constant", "opset"],
)
def test_anything_else_is_another_structure(
    tmp_path: Path, change: Callable[[onnx.ModelProto], object]
) -> None:
    other = model_of()
    change(other)
    assert structure_sha256(saved(model_of(), tmp_path)) != structure_sha256(saved(other, tmp_path))


@pytest.mark.parametrize("read", [read_weights, structure_sha256])
def test_what_is_no_onnx_file(tmp_path: Path, read: Callable[[Path], object]) -> None:
    (tmp_path / "model.onnx").write_bytes(b"\xff\xff no model")
    with pytest.raises(BundleError, match="is no ONNX model"):
        read(tmp_path / "model.onnx")
