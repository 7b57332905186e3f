"""Reads a classifier's ONNX graph as a `Program`, alone or after the encoder of the same graph."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from magvit_runtime.backends.native.classifier_steps import (
    Classes,
    DigitRows,
    Mixture,
    Rectification,
)
from magvit_runtime.backends.native.decoder_steps import CodebookRows, SignCodes
from magvit_runtime.backends.native.encoder_lowering import EncoderLowering
from magvit_runtime.backends.native.lowering_values import LAYOUTS, IdsValue, MapValue, refusal
from magvit_runtime.backends.native.program import Conv, Input, Output
from magvit_runtime.bundle.onnx_file import Node
from magvit_runtime.types import MAX_BITS

QUANTIZERS = ("magvit.LFQ", "magvit.CodebookArgmax")
# What has more than one input has at least so many.
_INPUTS = dict.fromkeys(("Add", "Div", "Gather", "MatMul", "Mul", "Reshape", "Sub", "Unsqueeze"), 2)


@dataclass(frozen=True)
class _Digit:
    """What integer arithmetic makes of ids: id // base, base · (id // base), or id % base."""

    ids: str
    base: int
    kind: str


@dataclass(frozen=True)
class _DigitRow:
    """Rows of a table that digits of ids number."""

    digit: _Digit
    table: NDArray[np.float32]


@dataclass(frozen=True)
class _ChannelsLast:
    """A map whose channels are its last axis in the graph."""

    map: MapValue


@dataclass(frozen=True)
class _Numbers:
    """All numbers of a map in a row, or what a linear layer makes of them."""

    map: MapValue
    is_channels_first: bool
    count: int
    weight: NDArray[np.float32] | None = None
    bias: NDArray[np.float32] | None = None


@dataclass(frozen=True)
class _Probabilities:
    """A sum of classifiers' probabilities, times a number."""

    parts: tuple[str, ...]
    classes: int
    scale: float = 1.0


class ClassifierLowering(EncoderLowering):
    """The values and steps of a classifier, and of the encoder before it, as far as read."""

    def _start(self) -> None:
        self._made: dict[str, _Digit | _DigitRow | _ChannelsLast | _Numbers | _Probabilities] = {}
        self._takes_frames = any(node.operator in QUANTIZERS for node in self._graph.nodes)
        if self._takes_frames:
            super()._start()
        else:
            self._layouts = LAYOUTS[self._graph.inputs[self._source] + 1]
            self._values[self._source] = IdsValue(self._source)

    def _input(self) -> Input:
        if self._takes_frames:
            return super()._input()
        return Input(self._source, "int32", self._layouts.ids, 1)

    def _output(self, name: str) -> Output:
        made = self._made.get(name)
        if not isinstance(made, _Probabilities):
            return super()._output(name)
        value, *others = made.parts
        if others or made.scale != 1:
            value = name
            self._steps.append(Mixture(made.parts, name, made.scale))
        return Output(name, value, "NC", "float32")

    def _read(self, node: Node) -> None:
        if not node.outputs or len(node.inputs) < _INPUTS.get(node.operator, 1):
            raise refusal(node)
        first = node.inputs[0]
        made, value = self._made.get(first), self._values.get(first)
        match node.operator, made or value:
            case "magvit.LFQCodes", IdsValue(ids, "int32"):
                self._read_codes(node, ids)
            case ("Div" | "Sub", IdsValue(_, "int32")) | ("Mul", _Digit()):
                self._read_digit(node)
            case "Gather", _:
                self._read_rows(node)
            case "Add", _DigitRow():
                self._read_sum_of_rows(node)
            case "Transpose", MapValue(normalization=None) as source:
                if node.attributes.get("perm") != self._channels_last:
                    raise refusal(node)
                self._made[node.outputs[0]] = _ChannelsLast(source)
            case "MatMul", _ChannelsLast(source):
                self._read_embedding(node, source)
            case "Unsqueeze", MapValue() as source:
                self._read_axis_of_time(node, source)
            case "Relu", MapValue(normalization=None) as source:
                output = node.outputs[0]
                self._steps.append(Rectification(source.value, output))
                self._values[output] = replace(source, value=output)
            case "Reshape", MapValue(normalization=None) | _ChannelsLast() as source:
                self._read_flattening(node, source)
            case "Gemm", _Numbers(weight=None) as numbers:
                self._read_linear(node, numbers)
            case "Softmax", _Numbers() as numbers:
                self._read_softmax(node, numbers)
            case "Add" | "Mul" | "Div", _Probabilities() as found:
                self._read_mixture(node, found)
            case _:
                super()._read(node)

    def _read_codes(self, node: Node, ids: str) -> None:
        bits, (output,) = node.attributes.get("bits"), node.outputs
        if not isinstance(bits, int) or not 1 <= bits <= MAX_BITS:
            raise refusal(node)
        self._steps.append(SignCodes(ids, output, bits))
        self._values[output] = MapValue(output, bits)

    def _read_digit(self, node: Node) -> None:
        """One of q = id / base, p = q · base and id - p, of integers."""
        first, second = node.inputs
        ids, digit, by = self._values.get(first), self._made.get(first), self._made.get(second)
        base = self._constant(node)
        made: _Digit | None = None
        is_whole = base is not None and base > 0 and base.is_integer()
        if node.operator == "Div" and isinstance(ids, IdsValue) and base is not None and is_whole:
            made = _Digit(ids.value, int(base), "quotient")
        elif node.operator == "Mul" and isinstance(digit, _Digit) and digit.base == base:
            made = replace(digit, kind="multiple") if digit.kind == "quotient" else None
        elif node.operator == "Sub" and isinstance(ids, IdsValue) and isinstance(by, _Digit):
            is_of_these = (by.ids, by.kind) == (ids.value, "multiple")
            made = replace(by, kind="remainder") if is_of_these else None
        if made is None:
            raise refusal(node)
        self._made[node.outputs[0]] = made

    def _read_rows(self, node: Node) -> None:
        (table, index), (output,), tensors = node.inputs, node.outputs, self._graph.tensors
        if table not in tensors or node.attributes.get("axis", 0) != 0:
            raise refusal(node)
        rows = tensors[table]
        if rows.ndim != 2 or rows.dtype != np.float32:
            raise refusal(node)
        match self._made.get(index) or self._values.get(index):
            case IdsValue(ids, "int32"):
                self._steps.append(CodebookRows(ids, output, rows))
                self._made[output] = _ChannelsLast(MapValue(output, rows.shape[1]))
            case _Digit() as digit:
                self._made[output] = _DigitRow(digit, rows)
            case _:
                raise refusal(node)

    def _read_sum_of_rows(self, node: Node) -> None:
        rows = {}
        for name in node.inputs:
            if isinstance(row := self._made.get(name), _DigitRow):
                rows[row.digit.kind] = row
        low, high = rows.get("remainder"), rows.get("quotient")
        if low is None or high is None or low.digit.ids != high.digit.ids:
            raise refusal(node)
        is_whole = low.digit.base == high.digit.base == len(low.table)
        if not is_whole or low.table.shape[1] != high.table.shape[1]:
            raise refusal(node)
        output = node.outputs[0]
        self._steps.append(DigitRows(low.digit.ids, output, low.table, high.table))
        self._made[output] = _ChannelsLast(MapValue(output, low.table.shape[1]))

    def _read_embedding(self, node: Node, source: MapValue) -> None:
        """A linear map of the channels at each position is a conv of one tap."""
        name, (output,) = node.inputs[1], node.outputs
        if name not in self._graph.tensors:
            raise refusal(node)
        weight = self._graph.tensors[name]
        if weight.ndim != 2 or len(weight) != source.channels or weight.dtype != np.float32:
            raise refusal(node)
        self._steps.append(
            Conv(
                name=node.name,
                input=source.value,
                output=output,
                weight=np.ascontiguousarray(weight.T)[:, :, None, None, None],
                bias=None,
                stride=(1, 1, 1),
                pads_before=(0, 0, 0),
                pads_after=(0, 0, 0),
                normalization=None,
                residual=None,
                output_type="float32",
            )
        )
        self._made[output] = _ChannelsLast(MapValue(output, weight.shape[1]))

    def _read_axis_of_time(self, node: Node, source: MapValue) -> None:
        """Maps of images have an axis of time in programs anyhow."""
        axes = self._graph.tensors.get(node.inputs[1])
        if axes is None or axes.tolist() != [2] or "T" in self._layouts.maps:
            raise refusal(node)
        self._values[node.outputs[0]] = source

    def _read_flattening(self, node: Node, source: MapValue | _ChannelsLast) -> None:
        shape = self._graph.tensors.get(node.inputs[1])
        if shape is None or shape.size != 2 or shape[0] != -1:
            raise refusal(node)
        is_map = isinstance(source, MapValue)
        flat = source if isinstance(source, MapValue) else source.map
        self._made[node.outputs[0]] = _Numbers(flat, is_map, int(shape[1]))

    def _read_linear(self, node: Node, numbers: _Numbers) -> None:
        weight, bias = self._linear(node)
        if weight.shape[1] != numbers.count:
            raise refusal(node)
        made = replace(numbers, weight=weight, bias=bias)
        self._made[node.outputs[0]] = made

    def _read_softmax(self, node: Node, numbers: _Numbers) -> None:
        if numbers.weight is None or numbers.bias is None or node.attributes.get("axis") != 1:
            raise refusal(node)
        output = node.outputs[0]
        self._steps.append(
            Classes(
                numbers.map.value, output, numbers.weight, numbers.bias, numbers.is_channels_first
            )
        )
        self._made[output] = _Probabilities((output,), len(numbers.bias))

    def _read_mixture(self, node: Node, found: _Probabilities) -> None:
        other, constant = self._made.get(node.inputs[1]), self._constant(node)
        match node.operator:
            case "Add" if (
                isinstance(other, _Probabilities)
                and found.scale == other.scale == 1
                and found.classes == other.classes
            ):
                made = replace(found, parts=found.parts + other.parts)
            case "Mul" if constant is not None:
                made = replace(found, scale=found.scale * constant)
            case "Div" if constant:
                made = replace(found, scale=found.scale / constant)
            case _:
                raise refusal(node)
        self._made[node.outputs[0]] = made
