"""Reading ONNX files without onnx gives the same as reading them with onnx."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper
from runtime.backends.native.graphs import plain_encoder

from magvit_runtime import BundleError
from magvit_runtime.bundle.onnx_file import read_graph


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_nodes_and_tensors_are_those_of_onnx(
    tiny_bundle: Path, tmp_path: Path, precision: str
) -> None:
    """A bundle's graph has its weights in another file; one that is made by hand, in the graph."""
    path = tiny_bundle / "encode.fp32.onnx"
    if precision == "fp16":
        path = onnx_copy_in_half(path, tmp_path / "half.onnx")
    check_graph(path)


def test_tensors_within_the_file(tmp_path: Path) -> None:
    encoder, latents = plain_encoder()
    check_graph(encoder.save(latents, tmp_path / "encoder.onnx"))


def test_released_weights_are_read_again(tiny_bundle: Path) -> None:
    graph = read_graph(tiny_bundle / "encode.fp32.onnx")
    kept = {name: graph.tensors[name] for name in graph.tensors}
    before = {name: array.copy() for name, array in kept.items()}
    graph.tensors.release()
    for name, array in kept.items():
        np.testing.assert_array_equal(array, before[name])


@pytest.mark.parametrize("length", [0, 1, 10, 100, 1000])
def test_a_file_that_was_cut_off_is_no_model(tmp_path: Path, length: int) -> None:
    encoder, latents = plain_encoder()
    path = encoder.save(latents, tmp_path / "encoder.onnx")
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(BundleError, match=r"encoder\.onnx is no ONNX model"):
        read_graph(path)


def test_weights_beyond_the_end_of_their_file(tiny_bundle: Path, tmp_path: Path) -> None:
    model = onnx.load(tiny_bundle / "encode.fp32.onnx", load_external_data=False)
    name = [t.name for t in model.graph.initializer if t.external_data][-1]
    path = tmp_path / "encoder.onnx"
    onnx.save(model, path)
    data = next(tiny_bundle.glob("*.fp32.data"))
    (tmp_path / data.name).write_bytes(data.read_bytes()[:100])
    with pytest.raises(BundleError, match="can't be read"):
        read_graph(path).tensors[name]


def onnx_copy_in_half(path: Path, copy: Path) -> Path:
    model = onnx.load(path)
    for tensor in model.graph.initializer:
        half = numpy_helper.to_array(tensor).astype(np.float16)
        tensor.CopyFrom(numpy_helper.from_array(half, tensor.name))
    onnx.save(model, copy)
    return copy


def check_graph(path: Path) -> None:
    model = onnx.load(path)
    graph = read_graph(path)
    assert list(graph.inputs) == [value.name for value in model.graph.input]
    assert list(graph.outputs) == [value.name for value in model.graph.output]
    assert len(graph.nodes) == len(model.graph.node) > 3
    for node, expected in zip(graph.nodes, model.graph.node, strict=True):
        domain = f"{expected.domain}." if expected.domain else ""
        assert node.operator == domain + expected.op_type
        assert (node.inputs, node.outputs) == (tuple(expected.input), tuple(expected.output))
        for attribute in expected.attribute:
            value = helper.get_attribute_value(attribute)
            value = value.decode() if isinstance(value, bytes) else value
            value = tuple(value) if isinstance(value, list) else value
            assert node.attributes[attribute.name] == value
    assert set(graph.tensors) == {tensor.name for tensor in model.graph.initializer}
    for tensor in model.graph.initializer:
        found = graph.tensors[tensor.name]
        expected = numpy_helper.to_array(tensor, base_dir=str(path.parent))
        assert found.dtype == expected.dtype
        np.testing.assert_array_equal(found, expected)
