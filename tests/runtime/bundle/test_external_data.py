"""A graph's weights may only be in the files that the manifest names for it."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import AttributeProto, GraphProto, ModelProto, NodeProto, SparseTensorProto, TensorProto

from magvit_export.bundle_writer import file_records
from magvit_runtime import BundleError, Tokenizer, open_bundle
from magvit_runtime.bundle.external_data import check_external_data
from magvit_runtime.bundle.manifest import GraphRecord, TensorSpec

SPEC = (TensorSpec("x", "int32", (1,), "ids", ""),)


def record(file: str, *data: str) -> GraphRecord:
    return GraphRecord(file, data, SPEC, SPEC)


def located(location: str) -> TensorProto:
    tensor = TensorProto(name="w", data_location=TensorProto.EXTERNAL)
    tensor.external_data.add(key="offset", value="0")
    tensor.external_data.add(key="location", value=location)
    return tensor


def model_of(graph: GraphProto) -> ModelProto:
    return ModelProto(graph=graph)


def node_of(attribute: AttributeProto) -> ModelProto:
    return model_of(GraphProto(node=[NodeProto(), NodeProto(attribute=[attribute])]))


def in_a_branch(tensor: TensorProto) -> ModelProto:
    return node_of(AttributeProto(g=GraphProto(initializer=[TensorProto(), tensor])))


def in_a_branch_of_a_branch(tensor: TensorProto) -> ModelProto:
    return node_of(AttributeProto(graphs=[GraphProto(), in_a_branch(tensor).graph]))


def in_a_function(tensor: TensorProto) -> ModelProto:
    node = NodeProto(attribute=[AttributeProto(t=tensor)])
    return ModelProto(functions=[onnx.FunctionProto(node=[node])])


def as_a_functions_default(tensor: TensorProto) -> ModelProto:
    return ModelProto(functions=[onnx.FunctionProto(attribute_proto=[AttributeProto(t=tensor)])])


PLACES: dict[str, Callable[[TensorProto], ModelProto]] = {
    "initializer": lambda tensor: model_of(GraphProto(initializer=[TensorProto(), tensor])),
    "sparse values": lambda tensor: model_of(
        GraphProto(sparse_initializer=[SparseTensorProto(values=tensor)])
    ),
    "sparse indices": lambda tensor: model_of(
        GraphProto(sparse_initializer=[SparseTensorProto(indices=tensor)])
    ),
    "attribute": lambda tensor: node_of(AttributeProto(t=tensor)),
    "list attribute": lambda tensor: node_of(AttributeProto(tensors=[TensorProto(), tensor])),
    "sparse attribute": lambda tensor: node_of(
        AttributeProto(sparse_tensor=SparseTensorProto(indices=tensor))
    ),
    "sparse list attribute": lambda tensor: node_of(
        AttributeProto(sparse_tensors=[SparseTensorProto(values=tensor)])
    ),
    "branch": in_a_branch,
    "branch of a branch": in_a_branch_of_a_branch,
    "function": in_a_function,
    "function's default": as_a_functions_default,
    "training": lambda tensor: ModelProto(
        training_info=[onnx.TrainingInfoProto(algorithm=GraphProto(initializer=[tensor]))]
    ),
}


def field(number: int, content: bytes) -> bytes:
    """A length-delimited field, as bytes."""
    size, length = [], len(content)
    while length >= 0x80:
        size.append(length & 0x7F | 0x80)
        length >>= 7
    return bytes([number << 3 | 2, *size, length]) + content


def check(path: Path, content: bytes, graph: GraphRecord | None = None) -> None:
    path.write_bytes(content)
    check_external_data(path, graph or record(path.name, "weights"))


@pytest.mark.parametrize("place", PLACES)
def test_wherever_the_tensor_is(tmp_path: Path, place: str) -> None:
    path = tmp_path / "graph.onnx"
    check(path, PLACES[place](located("weights")).SerializeToString())
    with pytest.raises(BundleError) as error:
        check(path, PLACES[place](located("others")).SerializeToString())
    assert str(error.value) == (
        f"{path} takes weights from a file that bundle.json doesn't name for it: found 'others', "
        "expected weights. Fix: export it again with `magvit export`"
    )


def test_the_scan_knows_every_field_that_can_hold_a_tensor() -> None:
    """Reads the installed onnx's own descriptors, so that a new field is noticed."""
    from magvit_runtime.bundle.external_data import _WAYS_TO_TENSORS

    def holds(kind: str, seen: frozenset[str]) -> bool:
        if kind == "TensorProto":
            return True
        fields = getattr(onnx, kind).DESCRIPTOR.fields
        inner = {field.message_type.name for field in fields if field.message_type} - seen
        return any(hasattr(onnx, name) and holds(name, seen | inner) for name in inner)

    expected = {}
    for kind in _WAYS_TO_TENSORS:
        fields = getattr(onnx, kind).DESCRIPTOR.fields
        expected[kind] = {
            field.number: field.message_type.name
            for field in fields
            if field.message_type
            and hasattr(onnx, field.message_type.name)
            and holds(field.message_type.name, frozenset({kind}))
        }
    number = TensorProto.DESCRIPTOR.fields_by_name["external_data"].number
    expected["TensorProto"] = {number: "TensorProto.external_data"}
    assert expected == _WAYS_TO_TENSORS


@pytest.mark.parametrize(
    "location",
    [
        "", ".", "..", "/", "../weights", "/weights", "folder/../weights", "weights\0",
        "Weights", "weights ", "\\weights", "file:weights", "*/_ORT_MEM_ADDR_/*",
    ],
)  # fmt: skip
def test_only_the_very_name(tmp_path: Path, location: str) -> None:
    """ONNX Runtime takes the last one for an address in its own memory."""
    model = PLACES["initializer"](located(location))
    with pytest.raises(BundleError, match="doesn't name for it"):
        check(tmp_path / "graph.onnx", model.SerializeToString())


def test_of_a_doubled_field_the_last_counts(tmp_path: Path) -> None:
    """The last value counts, as for every protobuf reader: a good name before it hides nothing."""
    entry = field(1, b"location") + field(2, b"weights") + field(2, b"another")
    assert onnx.StringStringEntryProto.FromString(entry).value == "another"
    with pytest.raises(BundleError, match="found 'another'"):
        check(tmp_path / "graph.onnx", field(7, field(5, field(13, entry))))


def test_names_are_relative_to_the_graph(tmp_path: Path) -> None:
    content = PLACES["initializer"](located("weights")).SerializeToString()
    check(tmp_path / "graph.onnx", content, record("deep/graph.onnx", "deep/weights"))
    with pytest.raises(BundleError, match="expected weights"):
        check(tmp_path / "graph.onnx", content, record("deep/graph.onnx", "weights"))


def nested(depth: int) -> bytes:
    """A graph in an attribute of a node of a graph ...; Google's own library makes none so deep."""
    graph = b""
    for _ in range(depth):
        graph = field(1, field(5, field(6, graph)))
    return field(7, graph)


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"\x3a\x05\x01", "passes the end"),
        (b"\x38\x01", "field 7 of a ModelProto is no message"),
        (b"ORTM\0\0\0\0", "is no ONNX model"),
        (nested(40), "deeper than 100"),
        (b"\x08\x01" * 400_000, "more than 300000 fields"),
        (
            PLACES["initializer"](located("a" * 20_000)).SerializeToString(),
            "external_data has 20014 bytes",
        ),
    ],
)
def test_no_model(tmp_path: Path, content: bytes, what: str) -> None:
    start = time.process_time()
    with pytest.raises(BundleError, match=what):
        check(tmp_path / "graph.onnx", content)
    assert time.process_time() - start < 4


def test_weights_without_a_digest_are_refused(tiny_bundle: Path, tmp_path: Path) -> None:
    """The manifest has the graph's digest, but the graph names a file without a digest."""
    bundle = shutil.copytree(tiny_bundle, tmp_path / "bundle")
    graph = bundle / "encode.fp32.onnx"
    model = onnx.load(graph, load_external_data=False)
    for tensor in model.graph.initializer:
        for entry in tensor.external_data:
            entry.value = "others" if entry.key == "location" else entry.value
    graph.write_bytes(model.SerializeToString())
    np.zeros(2**20, np.float32).tofile(bundle / "others")
    manifest = json.loads((bundle / "bundle.json").read_text())
    for name, file in file_records([graph]).items():
        manifest["files"][name] = {"size": file.size, "sha256": file.sha256}
    (bundle / "bundle.json").write_text(json.dumps(manifest))
    with pytest.raises(BundleError, match=r"found 'others', expected encode\.fp32\.data"):
        Tokenizer.open(bundle)


def test_it_takes_no_time_worth_mentioning(small_bundle: Path) -> None:
    """A fifth of the released size's fields; the bound is on processor time, and generous."""
    bundle = open_bundle(small_bundle)
    _, graph = bundle.graph("encode")
    start = time.process_time()
    check_external_data(small_bundle / graph.file, graph)
    assert time.process_time() - start < 0.05
