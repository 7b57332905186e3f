"""Reads the parts of an encoder's ONNX file: nodes, tensors, inputs and outputs.

Weights stay in their file until they are asked for.

Field numbers: https://github.com/onnx/onnx/blob/main/onnx/onnx.proto.
"""

from __future__ import annotations

import math
import mmap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from magvit_runtime.bundle.protobuf_wire import (
    Fields,
    by_number,
    integers,
    messages,
    number_of,
    only,
    text,
)
from magvit_runtime.errors import BundleError

AttributeValue = int | float | str | tuple[int, ...]

_DTYPES: dict[int, type[np.generic]] = {
    1: np.float32,
    2: np.uint8,
    6: np.int32,
    7: np.int64,
    10: np.float16,
    11: np.float64,
}
_EXTERNAL = 1


@dataclass(frozen=True)
class Node:
    """One node.

    Attributes:
        name: Its name.
        operator: Its type, with the domain before it unless that is ONNX's own: "magvit.LFQ".
        inputs, outputs: Names of values; an input that is left out is "".
        attributes: The attributes that are numbers, strings or lists of integers, by name.
    """

    name: str
    operator: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, AttributeValue]


class Tensors(Mapping[str, NDArray[Any]]):
    """A graph's initializers by name; files of weights are mapped, and read where they are used.

    Args:
        path: The ONNX file.
        records: What it says of each tensor, or the tensor itself.
    """

    def __init__(self, path: Path, records: Mapping[str, memoryview | NDArray[Any]]) -> None:
        self._path = path
        self._records = records
        self._mapped: dict[Path, mmap.mmap] = {}

    def __getitem__(self, name: str) -> NDArray[Any]:
        record = self._records[name]
        if isinstance(record, np.ndarray):
            return record
        try:
            return self._read(record)
        except (ValueError, OverflowError, OSError) as error:
            raise BundleError(
                f"the tensor {name!r} of {self._path} can't be read", found=str(error)
            ) from error

    def __contains__(self, name: object) -> bool:
        return name in self._records  # Mapping's own would read it.

    def __iter__(self) -> Iterator[str]:
        return iter(self._records)

    def __len__(self) -> int:
        return len(self._records)

    def release(self) -> None:
        """Releases the memory of weights that were read; arrays stay valid, and are read again."""
        if hasattr(mmap, "MADV_DONTNEED"):
            for mapped in self._mapped.values():
                mapped.madvise(mmap.MADV_DONTNEED)

    def _read(self, record: memoryview) -> NDArray[Any]:
        message = by_number(record)
        shape = integers(message, 1)
        kind = number_of(message, 2)
        if kind not in _DTYPES or any(size < 0 for size in shape):
            raise ValueError(f"type {kind}, shape {list(shape)}")
        dtype = np.dtype(_DTYPES[kind])
        if number_of(message, 14) == _EXTERNAL:
            return self._external(message, dtype, shape)
        if 9 in message:
            return np.frombuffer(only(message, 9), dtype).reshape(shape)
        if dtype == np.float32:
            parts = [np.frombuffer(part, "<f4") for part in messages(message, 4)]
            return np.concatenate(parts).reshape(shape)
        return np.array(integers(message, 7 if dtype == np.int64 else 5), dtype).reshape(shape)

    def _external(
        self, message: Fields, dtype: np.dtype[Any], shape: tuple[int, ...]
    ) -> NDArray[Any]:
        pairs = [by_number(entry) for entry in messages(message, 13)]
        entries = {text(only(pair, 1)): text(only(pair, 2)) for pair in pairs}
        path = self._path.parent / entries["location"] if "location" in entries else self._path
        if path not in self._mapped:
            with path.open("rb") as file:
                self._mapped[path] = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        offset = int(entries.get("offset", 0))
        array = np.frombuffer(self._mapped[path], dtype, math.prod(shape), offset)
        return array.reshape(shape)


@dataclass(frozen=True)
class Graph:
    """A graph as its file holds it.

    Attributes:
        inputs: The number of dimensions of each input, by name.
        outputs: Names of the outputs.
        nodes: The nodes in the file's order, in which they can run.
        tensors: Initializers by name.
    """

    inputs: Mapping[str, int]
    outputs: tuple[str, ...]
    nodes: tuple[Node, ...]
    tensors: Tensors


def read_graph(path: Path) -> Graph:
    """Reads an ONNX file whose digest, and whose weights' digest, were checked.

    Raises:
        BundleError: The file is no ONNX model.
    """
    try:
        model = by_number(memoryview(path.read_bytes()))
        graph = by_number(only(model, 7))
        records = {text(only(by_number(t), 8)): t for t in messages(graph, 5)}
        return Graph(
            inputs=dict(_input(value) for value in messages(graph, 11)),
            outputs=tuple(text(only(by_number(value), 1)) for value in messages(graph, 12)),
            nodes=tuple(_node(value) for value in messages(graph, 1)),
            tensors=Tensors(path, records),
        )
    except ValueError as error:
        raise BundleError(f"{path} is no ONNX model", found=str(error)) from error


def _input(value: memoryview) -> tuple[str, int]:
    message = by_number(value)
    tensor = by_number(only(by_number(only(message, 2)), 1))
    shape = by_number(only(tensor, 2))
    return text(only(message, 1)), len(shape.get(1, ()))


def _node(value: memoryview) -> Node:
    message = by_number(value)
    domain = text(only(message, 7)) if 7 in message else ""
    operator = text(only(message, 4))
    return Node(
        name=text(only(message, 3)) if 3 in message else operator,
        operator=f"{domain}.{operator}" if domain else operator,
        inputs=tuple(text(name) for name in messages(message, 1)),
        outputs=tuple(text(name) for name in messages(message, 2)),
        attributes=dict(_attributes(message)),
    )


def _attributes(node: Fields) -> Iterator[tuple[str, AttributeValue]]:
    kinds = {1: "float", 2: "int", 3: "string", 7: "ints"}
    for value in messages(node, 5):
        message = by_number(value)
        name = text(only(message, 1))
        match kinds.get(number_of(message, 20)):
            case "float":
                yield name, float(np.frombuffer(only(message, 2), "<f4")[0])
            case "int":
                yield name, number_of(message, 3)
            case "string":
                yield name, text(only(message, 4))
            case "ints":
                yield name, integers(message, 8)
