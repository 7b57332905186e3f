"""The scan for weight files against Google's own reader, on models damaged in any way.

If that reader still sees a tensor in a damaged model, the scan must see it too, or refuse the
model. Otherwise the backend would load a weight file that nothing checked.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest
from adversarial import mutations
from google.protobuf.message import DecodeError, Message
from onnx import AttributeProto, GraphProto, NodeProto, SparseTensorProto, TensorProto

from magvit_runtime import BundleError
from magvit_runtime.bundle.external_data import check_external_data
from magvit_runtime.bundle.manifest import GraphRecord, TensorSpec

CASES = 3000
SPEC = (TensorSpec("x", "int32", (1,), "ids", ""),)


def weights_everywhere() -> bytes:
    """A model with external data in every kind of place, all in the file `w`."""
    tensor = TensorProto(name="t", dims=[2, 3], data_location=TensorProto.EXTERNAL)
    tensor.external_data.add(key="location", value="w")
    tensor.external_data.add(key="length", value="24")
    sparse = SparseTensorProto(values=tensor, indices=tensor, dims=[9])
    leaves = [AttributeProto(name="a", t=tensor, tensors=[tensor], sparse_tensor=sparse)]
    branch = GraphProto(initializer=[tensor], node=[NodeProto(attribute=leaves)])
    node = NodeProto(op_type="If", attribute=[AttributeProto(g=branch, graphs=[branch])])
    graph = GraphProto(node=[node], initializer=[tensor, tensor], sparse_initializer=[sparse])
    function = onnx.FunctionProto(name="F", node=[node], attribute_proto=leaves)
    return onnx.ModelProto(
        ir_version=10, graph=graph, functions=[function, function]
    ).SerializeToString()


def locations(message: Message) -> Iterator[str]:
    """The locations of every tensor in a message, found by the descriptors of Google's reader."""
    if isinstance(message, TensorProto):
        yield from (entry.value for entry in message.external_data if entry.key == "location")
    for descriptor, value in message.ListFields():
        if descriptor.message_type is not None:
            for inner in [value] if isinstance(value, Message) else value:
                yield from locations(inner)


def test_nothing_that_a_reader_sees_escapes_the_scan(tmp_path: Path) -> None:
    sound = weights_everywhere()
    path = tmp_path / "graph.onnx"
    graph = GraphRecord(path.name, ("w",), SPEC, SPEC)
    readable = refused = 0
    for seed in range(CASES):
        content = mutations.damaged(sound, np.random.default_rng(seed))
        path.write_bytes(content)
        try:
            check_external_data(path, graph)
        except BundleError:
            refused += 1
            continue
        try:
            model = onnx.ModelProto.FromString(content)
        except DecodeError:
            continue
        readable += 1
        assert set(locations(model)) <= {"w"}, f"seed {seed}"
    assert readable > CASES / 20
    assert refused > CASES / 20


def test_the_reader_of_this_test_sees_weights(tmp_path: Path) -> None:
    """Shows that the reader finds locations: one that finds none would agree with any scan."""
    content = weights_everywhere()
    assert len(list(locations(onnx.ModelProto.FromString(content)))) > 20
    (tmp_path / "graph.onnx").write_bytes(content)
    with pytest.raises(BundleError, match="expected none"):
        check_external_data(tmp_path / "graph.onnx", GraphRecord("graph.onnx", (), SPEC, SPEC))
