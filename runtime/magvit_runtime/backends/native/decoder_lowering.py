"""Reads a decoder's ONNX graph as a `Program`: what encoders have too, and the steps of its own."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from magvit_runtime.backends.native.decoder_steps import (
    AdaptiveNormalization,
    ChannelStatistic,
    CodebookRows,
    DepthToSpace,
    PixelRounding,
    Repetition,
    SignCodes,
)
from magvit_runtime.backends.native.encoder_lowering import EncoderLowering
from magvit_runtime.backends.native.lowering_values import LAYOUTS, MapValue, refusal
from magvit_runtime.backends.native.program import Input, Output
from magvit_runtime.bundle.onnx_file import Node
from magvit_runtime.types import MAX_BITS

_UINT8 = 2
# What is done to a value on its way to a byte, in this order.
_TO_BYTES = ("Clip", "Add", "Mul", "Add", "Floor", "Transpose", "Cast")


@dataclass(frozen=True)
class _Statistic:
    """Spread or mean of a map's channels, or what a linear layer makes of it."""

    map: str
    channels: int
    epsilon: float | None
    linear: ChannelStatistic | None = None


@dataclass(frozen=True)
class _Levels:
    """The last map on its way to bytes: the constants of the operators of `_TO_BYTES` so far."""

    map: str
    done: int = 0
    constants: tuple[float, ...] = ()


class DecoderLowering(EncoderLowering):
    """A decoder's values and steps, as far as its nodes have been read."""

    def _read(self, node: Node) -> None:
        match node.operator:
            case "magvit.LFQCodes":
                self._read_codes(node)
            case "Gather":
                self._read_rows(node)
            case "Transpose" if node.inputs[0] in self._rows:
                self._read_rows_as_map(node)
            case "magvit.SpatialAttention":
                self._read_attention(node)
            case "Resize":
                self._read_repetition(node)
            case "magvit.CodeStatistics":
                self._read_statistics(node)
            case "Gemm":
                self._read_linear(node)
            case "magvit.GroupNorm" if node.inputs[1] in self._statistics:
                self._read_adaptive_norm(node)
            case "magvit.GroupNorm" | "magvit.GroupNormSiLU":
                self._read_normalization(node)
            case "Conv":
                self._read_conv(node)
            case "DepthToSpace" | "magvit.CausalDepthToSpace":
                self._read_depth_to_space(node)
            case "Add" if all(name in self._values for name in node.inputs):
                self._read_sum(node)
            case "Cast" if node.inputs[0] in self._values:
                self._read_cast(node)
            case _:
                self._read_levels(node)

    def _input(self) -> Input:
        return Input(self._source, "int32", self._layouts.ids, 1)

    def _output(self, name: str) -> Output:
        if name in self._bytes:
            return Output(name, name, self._layouts.frames, "uint8")
        return super()._output(name)

    def _start(self) -> None:
        rank = self._graph.inputs[self._source]
        self._layouts = LAYOUTS[rank + 1]
        self._rows: dict[str, NDArray[np.float32]] = {}
        self._statistics: dict[str, _Statistic] = {}
        self._levels: dict[str, _Levels] = {}
        self._bytes: set[str] = set()

    def _read_codes(self, node: Node) -> None:
        bits, (output,) = node.attributes.get("bits"), node.outputs
        if node.inputs != (self._source,) or not isinstance(bits, int) or not 1 <= bits <= MAX_BITS:
            raise refusal(node)
        self._steps.append(SignCodes(self._source, output, bits))
        self._values[output] = MapValue(output, bits)

    def _read_rows(self, node: Node) -> None:
        (table, ids), tensors = node.inputs, self._graph.tensors
        if ids != self._source or table not in tensors or node.attributes.get("axis", 0) != 0:
            raise refusal(node)
        codebook = tensors[table]
        if codebook.ndim != 2 or codebook.dtype != np.float32:
            raise refusal(node)
        self._rows[node.outputs[0]] = codebook

    def _read_rows_as_map(self, node: Node) -> None:
        """Rows have their channels last; with these in front they are a map."""
        (source,), (output,) = node.inputs, node.outputs
        layout = self._layouts
        rows_last = layout.ids + "C"
        if node.attributes.get("perm") != tuple(rows_last.index(axis) for axis in layout.maps):
            raise refusal(node)
        codebook = self._rows[source]
        self._steps.append(CodebookRows(self._source, output, codebook))
        self._values[output] = MapValue(output, codebook.shape[1])

    def _read_repetition(self, node: Node) -> None:
        source, tensors = self._map(node.inputs[0], node), self._graph.tensors
        attributes = node.attributes
        is_nearest = (
            attributes.get("mode"),
            attributes.get("nearest_mode"),
            attributes.get("coordinate_transformation_mode"),
        ) == ("nearest", "floor", "asymmetric")
        scales = node.inputs[2] if len(node.inputs) == 3 else ""
        if source.normalization is not None or not is_nearest or scales not in tensors:
            raise refusal(node)
        factors = tensors[scales]
        if factors.shape != (len(self._layouts.maps),):
            raise refusal(node)
        *kept, height, width = map(float, factors)
        if (
            set(kept) != {1.0}
            or not (height.is_integer() and width.is_integer())
            or min(height, width) < 1
        ):
            raise refusal(node)
        (output,) = node.outputs
        self._steps.append(Repetition(source.value, output, int(height), int(width)))
        self._values[output] = MapValue(output, source.channels)

    def _read_statistics(self, node: Node) -> None:
        codes, epsilon = self._map(node.inputs[0], node), node.attributes.get("epsilon")
        if codes.normalization is not None or not isinstance(epsilon, float):
            raise refusal(node)
        for name, of_spread in zip(node.outputs, (epsilon, None), strict=True):
            self._statistics[name] = _Statistic(codes.value, codes.channels, of_spread)

    def _read_linear(self, node: Node) -> None:
        statistic = self._statistics.get(node.inputs[0])
        weight, bias = self._linear(node)
        if (
            statistic is None
            or statistic.linear is not None
            or weight.shape[1] != statistic.channels
        ):
            raise refusal(node)
        linear = ChannelStatistic(statistic.map, statistic.epsilon, weight, bias)
        self._statistics[node.outputs[0]] = replace(statistic, linear=linear)

    def _read_adaptive_norm(self, node: Node) -> None:
        source, (output,) = self._map(node.inputs[0], node), node.outputs
        scale, shift = (self._statistics.get(name) for name in node.inputs[1:])
        groups, epsilon = node.attributes.get("num_groups"), node.attributes.get("epsilon")
        if (
            source.normalization is not None
            or scale is None
            or shift is None
            or scale.linear is None
            or shift.linear is None
            or {scale.linear.bias.size, shift.linear.bias.size} != {source.channels}
            or not isinstance(groups, int)
            or not isinstance(epsilon, float)
            or not 0 < groups <= source.channels
            or source.channels % groups != 0
        ):
            raise refusal(node)
        self._steps.append(
            AdaptiveNormalization(source.value, output, groups, epsilon, scale.linear, shift.linear)
        )
        self._values[output] = MapValue(output, source.channels)
        # It leaves the moments of these groups.
        self._groups[output] = groups

    def _read_depth_to_space(self, node: Node) -> None:
        source, (output,) = self._map(node.inputs[0], node), node.outputs
        attributes = node.attributes
        if node.operator == "DepthToSpace":
            size = attributes.get("blocksize")
            is_known = isinstance(size, int) and attributes.get("mode", "DCR") == "DCR"
            block: object = (1, size, size) if is_known and "T" not in self._layouts.maps else None
        else:
            block = attributes.get("block")
        if not isinstance(block, tuple) or len(block) != 3 or min(block) < 1:
            raise refusal(node)
        if source.normalization is not None or source.channels % math.prod(block):
            raise refusal(node)
        self._steps.append(DepthToSpace(source.value, output, (block[0], block[1], block[2])))
        self._values[output] = MapValue(output, source.channels // math.prod(block))

    def _read_levels(self, node: Node) -> None:
        first, *others = node.inputs
        levels = self._levels.get(first)
        if levels is None:
            last = self._map(first, node)
            if last.normalization is not None or last.channels != 3:
                raise refusal(node)
            levels = _Levels(last.value)
        tensors = self._graph.tensors
        known = [name for name in others if name in tensors and tensors[name].size == 1]
        is_expected = levels.done < len(_TO_BYTES) and node.operator == _TO_BYTES[levels.done]
        count = {"Clip": 2, "Add": 1, "Mul": 1}.get(node.operator, 0)
        if not is_expected or len(known) != len(others) or len(known) != count:
            raise refusal(node)
        if node.operator == "Transpose" and node.attributes.get("perm") != self._channels_last:
            raise refusal(node)
        constants = tuple(float(tensors[name].reshape(())) for name in known)
        after = replace(levels, done=levels.done + 1, constants=levels.constants + constants)
        output = node.outputs[0]
        if after.done < len(_TO_BYTES):
            self._levels[output] = after
            return
        if node.attributes.get("to") != _UINT8:
            raise refusal(node)
        self._steps.append(PixelRounding(levels.map, output, *after.constants))
        self._bytes.add(output)
