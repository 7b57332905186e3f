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

from magvit_runtime.bundle.protobuf_wire import WireError, as_int64, fields, packed_varints
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
    """A graph's initializers by name; files of weights are mapped, and read where they are used."""

    def __init__(self, path: Path, records: Mapping[str, memoryview]) -> None:
        self._path = path
        self._records = records
        self._mapped: dict[Path, mmap.mmap] = {}

    def __getitem__(self, name: str) -> NDArray[Any]:
        record = self._records[name]
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
        message = _by_number(record)
        shape = _integers(message, 1)
        kind = _number(message, 2)
        if kind not in _DTYPES or any(size < 0 for size in shape):
            raise ValueError(f"type {kind}, shape {list(shape)}")
        dtype = np.dtype(_DTYPES[kind])
        if _number(message, 14) == _EXTERNAL:
            return self._external(message, dtype, shape)
        if 9 in message:
            return np.frombuffer(_only(message, 9), dtype).reshape(shape)
        if dtype == np.float32:
            parts = [np.frombuffer(part, "<f4") for part in _messages(message, 4)]
            return np.concatenate(parts).reshape(shape)
        return np.array(_integers(message, 7 if dtype == np.int64 else 5), dtype).reshape(shape)

    def _external(
        self, message: Fields, dtype: np.dtype[Any], shape: tuple[int, ...]
    ) -> NDArray[Any]:
        pairs = [_by_number(entry) for entry in _messages(message, 13)]
        entries = {_text(_only(pair, 1)): _text(_only(pair, 2)) for pair in pairs}
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
        model = _by_number(memoryview(path.read_bytes()))
        graph = _by_number(_only(model, 7))
        records = {_text(_only(_by_number(t), 8)): t for t in _messages(graph, 5)}
        return Graph(
            inputs=dict(_input(value) for value in _messages(graph, 11)),
            outputs=tuple(_text(_only(_by_number(value), 1)) for value in _messages(graph, 12)),
            nodes=tuple(_node(value) for value in _messages(graph, 1)),
            tensors=Tensors(path, records),
        )
    except ValueError as error:
        raise BundleError(f"{path} is no ONNX model", found=str(error)) from error


Fields = Mapping[int, list[int | memoryview]]


def _by_number(message: memoryview) -> Fields:
    found: dict[int, list[int | memoryview]] = {}
    for number, _, value in fields(message):
        found.setdefault(number, []).append(value)
    return found


def _messages(message: Fields, number: int) -> Iterator[memoryview]:
    for value in message.get(number, ()):
        if not isinstance(value, memoryview):
            raise WireError(f"field {number} is no message")
        yield value


def _only(message: Fields, number: int) -> memoryview:
    found = list(_messages(message, number))
    if not found:
        raise WireError(f"field {number} is missing")
    return found[-1]


def _number(message: Fields, number: int) -> int:
    value = message.get(number, [0])[-1]
    if not isinstance(value, int):
        raise WireError(f"field {number} is no number")
    return as_int64(value)


def _text(value: memoryview) -> str:
    return bytes(value).decode()


def _input(value: memoryview) -> tuple[str, int]:
    message = _by_number(value)
    tensor = _by_number(_only(_by_number(_only(message, 2)), 1))
    shape = _by_number(_only(tensor, 2))
    return _text(_only(message, 1)), len(shape.get(1, ()))


def _node(value: memoryview) -> Node:
    message = _by_number(value)
    domain = _text(_only(message, 7)) if 7 in message else ""
    operator = _text(_only(message, 4))
    return Node(
        name=_text(_only(message, 3)) if 3 in message else operator,
        operator=f"{domain}.{operator}" if domain else operator,
        inputs=tuple(_text(name) for name in _messages(message, 1)),
        outputs=tuple(_text(name) for name in _messages(message, 2)),
        attributes=dict(_attributes(message)),
    )


def _attributes(node: Fields) -> Iterator[tuple[str, AttributeValue]]:
    kinds = {1: "float", 2: "int", 3: "string", 7: "ints"}
    for value in _messages(node, 5):
        message = _by_number(value)
        name = _text(_only(message, 1))
        match kinds.get(_number(message, 20)):
            case "float":
                yield name, float(np.frombuffer(_only(message, 2), "<f4")[0])
            case "int":
                yield name, _number(message, 3)
            case "string":
                yield name, _text(_only(message, 4))
            case "ints":
                yield name, _integers(message, 8)


def _integers(message: Fields, number: int) -> tuple[int, ...]:
    """A repeated field of integers, packed or not."""
    found: list[int] = []
    for value in message.get(number, ()):
        found += [value] if isinstance(value, int) else packed_varints(value)
    return tuple(as_int64(value) for value in found)
