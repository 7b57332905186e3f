"""The weights in an ONNX file under the names that TensorRT gives them, and what is no weight.

TensorRT's parser calls weights by the initializer that they come from, or by the output of the
`Constant` node, also where that stands in a function's body. Initializers are weights;
nodes, functions and their constants are structure.

Field numbers: https://github.com/onnx/onnx/blob/main/onnx/onnx.proto.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from magvit_runtime.bundle.onnx_file import Tensors
from magvit_runtime.bundle.protobuf_wire import (
    Fields,
    by_number,
    fields,
    integers,
    messages,
    only,
    text,
)
from magvit_runtime.errors import BundleError

_MODEL_GRAPH, _MODEL_FUNCTIONS = 7, 25
# Who exported the model and when is no part of what it computes.
_MODEL_NOTES = {2, 3, 4, 5, 6, 14}
_GRAPH_NODES, _GRAPH_INITIALIZERS, _GRAPH_NOTES = 1, 5, {2, 10, 16}


def read_weights(path: Path) -> Tensors:
    """All weights and constants of an ONNX file by name; each is read when it is asked for.

    A name that several functions give to constants of different values is left out.

    Args:
        path: The file, whose digest, and whose weights' digest, were checked.

    Raises:
        BundleError: The file is no ONNX model.
    """
    try:
        model = by_number(memoryview(path.read_bytes()))
        graph = by_number(only(model, _MODEL_GRAPH))
        records: dict[str, memoryview | NDArray[Any]] = {}
        attributes: dict[str, set[bytes]] = {}
        for name, attribute in _constants(model, graph):
            attributes.setdefault(name, set()).add(bytes(attribute))
        for name, (first, *others) in attributes.items():
            value = by_number(memoryview(first))
            found = only(value, 5) if 5 in value else _numbers(value)
            if found is not None and not others:
                records[name] = found
        for tensor in messages(graph, _GRAPH_INITIALIZERS):
            records[text(only(by_number(tensor), 8))] = tensor
    except ValueError as error:
        raise BundleError(f"{path} is no ONNX model", found=str(error)) from error
    return Tensors(path, records)


def structure_sha256(path: Path) -> str:
    """Digest of all that an ONNX file says except the values of its initializers.

    Two exports of one architecture with other weights have the same: an engine of one that can be
    refitted takes the weights of the other.

    Raises:
        BundleError: The file is no ONNX model.
    """
    digest = hashlib.sha256()

    def add(*parts: object) -> None:
        digest.update(repr(parts).encode())

    try:
        for number, _, value in fields(memoryview(path.read_bytes())):
            if number in _MODEL_NOTES:
                continue
            if number != _MODEL_GRAPH or not isinstance(value, memoryview):
                add(number, bytes(value) if isinstance(value, memoryview) else value)
                continue
            for field, _, part in fields(value):
                if field in _GRAPH_NOTES:
                    continue
                if field == _GRAPH_INITIALIZERS and isinstance(part, memoryview):
                    tensor = by_number(part)
                    add(field, text(only(tensor, 8)), integers(tensor, 1), integers(tensor, 2))
                else:
                    add(field, bytes(part) if isinstance(part, memoryview) else part)
    except ValueError as error:
        raise BundleError(f"{path} is no ONNX model", found=str(error)) from error
    return digest.hexdigest()


def _constants(model: Fields, graph: Fields) -> Iterator[tuple[str, memoryview]]:
    """The output of each `Constant` node, and the attribute that holds its value."""
    nodes = list(messages(graph, _GRAPH_NODES))
    for function in messages(model, _MODEL_FUNCTIONS):
        nodes += messages(by_number(function), 7)
    for message in nodes:
        node = by_number(message)
        if text(only(node, 4)) == "Constant":
            yield text(only(node, 2)), only(node, 5)


def _numbers(value: Fields) -> NDArray[Any] | None:
    """A constant of plain numbers; None where it comes from an attribute of the function."""
    match text(only(value, 1)):
        case "value_int" if 3 in value:
            return np.array(integers(value, 3)[0], np.int64)
        case "value_ints" if 8 in value:
            return np.array(integers(value, 8), np.int64)
        case "value_float" if 2 in value:
            return np.frombuffer(only(value, 2), "<f4").reshape(())
        case "value_floats" if 7 in value:
            return np.concatenate([np.frombuffer(part, "<f4") for part in messages(value, 7)])
    return None
