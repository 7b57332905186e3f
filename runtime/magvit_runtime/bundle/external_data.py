"""Which files an ONNX graph takes its weights from, read before a backend loads them.

The manifest has digests of the files that it names. But an ONNX file also names its weight files
itself. So a graph could take weights from a file without a digest, in the bundle or elsewhere.

Field numbers: https://github.com/onnx/onnx/blob/main/onnx/onnx.proto.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from magvit_runtime.bundle.manifest import GraphRecord
from magvit_runtime.bundle.protobuf_wire import WireError, fields
from magvit_runtime.errors import BundleError

# Protobuf itself reads no message of 2 GiB, and in C++ no message that is nested deeper than this.
_LARGEST_FILE = 2**31 - 1
_DEEPEST = 100
# Limits on time: an encoder of the released size has 6,000 fields, and no path is that long.
_MOST_FIELDS = 300_000
_LONGEST_ENTRY = 10_000

_EXTERNAL_DATA = "TensorProto.external_data"
# For each message, the fields that can lead to a tensor, and the type of each.
_WAYS_TO_TENSORS: dict[str, dict[int, str]] = {
    "ModelProto": {7: "GraphProto", 20: "TrainingInfoProto", 25: "FunctionProto"},
    "TrainingInfoProto": {1: "GraphProto", 2: "GraphProto"},
    "GraphProto": {1: "NodeProto", 5: "TensorProto", 15: "SparseTensorProto"},
    "FunctionProto": {7: "NodeProto", 11: "AttributeProto"},
    "NodeProto": {5: "AttributeProto"},
    "AttributeProto": {
        5: "TensorProto",
        6: "GraphProto",
        10: "TensorProto",
        11: "GraphProto",
        22: "SparseTensorProto",
        23: "SparseTensorProto",
    },
    "SparseTensorProto": {1: "TensorProto", 2: "TensorProto"},
    "TensorProto": {13: _EXTERNAL_DATA},
}


def check_external_data(path: Path, graph: GraphRecord) -> None:
    """Refuses a graph that takes weights from a file that the manifest doesn't name for it.

    Args:
        path: The ONNX file.
        graph: The manifest's record of it.

    Raises:
        BundleError: The graph takes weights from another file, or the file is no ONNX model.
    """
    folder = PurePosixPath(graph.file).parent
    for location in external_data(path):
        if str(folder / location) not in graph.data:
            raise BundleError(
                f"{path} takes weights from a file that bundle.json doesn't name for it",
                found=repr(location),
                expected=", ".join(graph.data) or "none",
                mend="export it again with `magvit export`",
            )


def external_data(path: Path) -> Iterator[str]:
    """Where an ONNX file says that its weights are, from its own folder; once for each tensor.

    Raises:
        BundleError: The file is no ONNX model.
    """
    if path.stat().st_size > _LARGEST_FILE:
        raise BundleError(f"{path} is larger than an ONNX file can be")
    try:
        yield from _locations(memoryview(path.read_bytes()))
    except WireError as error:
        raise BundleError(f"{path} is no ONNX model", found=str(error)) from error


def _locations(model: memoryview) -> Iterator[str]:
    """The `location` of every tensor with external data, anywhere in the model."""
    count = 0
    # Depth first, so that only a few iterators wait, and not a list of a whole level.
    open_messages = [("ModelProto", fields(model))]
    while open_messages:
        kind, remaining = open_messages[-1]
        for number, _, value in remaining:
            count += 1
            if count > _MOST_FIELDS:
                raise WireError(f"it has more than {_MOST_FIELDS} fields")
            inner = _WAYS_TO_TENSORS[kind].get(number)
            if inner is None:
                continue
            if not isinstance(value, memoryview):
                raise WireError(f"field {number} of a {kind} is no message")
            if inner == _EXTERNAL_DATA:
                yield from _location(value)
                continue
            open_messages.append((inner, fields(value)))
            break
        else:
            open_messages.pop()
        if len(open_messages) > _DEEPEST:
            raise WireError(f"it is nested deeper than {_DEEPEST} messages")


def _location(entry: memoryview) -> Iterator[str]:
    if len(entry) > _LONGEST_ENTRY:
        raise WireError(f"an entry of {_EXTERNAL_DATA} has {len(entry)} bytes")
    # StringStringEntryProto: if a field is written twice, the last one counts.
    pair = {number: value for number, _, value in fields(entry)}
    key, value = (
        bytes(part).decode(errors="surrogateescape") if isinstance(part, memoryview) else ""
        for part in (pair.get(1), pair.get(2))
    )
    if key == "location":
        yield value
