"""Reads an encoder's ONNX graph as a `Program`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from magvit_runtime.backends.native.decoder_steps import AdaptiveNormalization
from magvit_runtime.backends.native.lowering_values import (
    LAYOUTS,
    IdsValue,
    MapValue,
    PixelsValue,
    refusal,
)
from magvit_runtime.backends.native.program import (
    Attention,
    CodebookSearch,
    Conv,
    Input,
    LookupFreeQuantization,
    Normalization,
    Output,
    PixelNormalization,
    Program,
    Sizes,
    Step,
)
from magvit_runtime.bundle.onnx_file import Graph, Node
from magvit_runtime.errors import BackendError
from magvit_runtime.types import FloatType

_FLOAT_TYPES: dict[int, FloatType] = {1: "float32", 10: "float16"}
_PIXEL_CHANNELS = 3
_LARGEST_CODE = 31  # Bits of an id.


class EncoderLowering:
    """An encoder's values and steps, as far as its nodes have been read."""

    def __init__(self, graph: Graph) -> None:
        self._graph = graph
        (self._source,) = graph.inputs
        self._values: dict[str, PixelsValue | MapValue | IdsValue] = {}
        self._steps: list[Step] = []
        self._uses = Counter(name for node in graph.nodes for name in node.inputs)
        self._uses.update(graph.outputs)
        self._groups: dict[str, int] = {}
        self._start()

    def _start(self) -> None:
        """What is known before the first node."""
        self._layouts = LAYOUTS[self._graph.inputs[self._source]]
        self._values[self._source] = PixelsValue()

    def program(self) -> Program:
        """Reads all nodes; see `lower`."""
        for node in self._graph.nodes:
            self._read(node)
        # First, as one may need a step more.
        outputs = tuple(self._output(name) for name in self._graph.outputs)
        return Program((self._input(),), tuple(self._steps), outputs)

    def _read(self, node: Node) -> None:
        match node.operator:
            case "Conv":
                self._read_conv(node)
            case "magvit.GroupNorm" | "magvit.GroupNormSiLU":
                self._read_normalization(node)
            case "Add" if all(name in self._values for name in node.inputs):
                self._read_sum(node)
            case "magvit.LFQ":
                self._read_lfq(node)
            case "magvit.CodebookArgmax":
                self._read_codebook(node)
            case "magvit.SpatialAttention":
                self._read_attention(node)
            case "Cast" if isinstance(self._values.get(node.inputs[0]), MapValue):
                self._read_cast(node)
            case "Cast" | "Add" | "Sub" | "Div" | "Mul" | "Transpose":
                self._read_pixels(node)
            case _:
                raise refusal(node)

    def _input(self) -> Input:
        return Input(self._source, "uint8", self._layouts.frames, _PIXEL_CHANNELS)

    def _output(self, name: str) -> Output:
        match self._values.get(name):
            case MapValue(value, normalization=None):
                return Output(name, value, self._layouts.maps, "float32")
            case IdsValue(value, dtype):
                return Output(name, value, self._layouts.ids, dtype)
            case _:
                raise BackendError(
                    "the native backend can't give an output of the graph",
                    found=name,
                    expected="ids, or a feature map that a conv wrote",
                    mend="use backend='onnxruntime'",
                )

    def _read_pixels(self, node: Node) -> None:
        before = self._values.get(node.inputs[0])
        if not isinstance(before, PixelsValue):
            raise refusal(node)
        constant = self._constant(node)
        match node.operator:
            case "Cast":
                after = before
            case "Transpose" if node.attributes.get("perm") == self._layouts.channels_first:
                after = replace(before, is_channels_first=True)
            case "Div" if constant is not None and before.offset == 0:
                after = replace(before, divisor=before.divisor * constant)
            case "Mul" if constant is not None and before.offset == 0:
                after = replace(before, divisor=before.divisor / constant)
            case "Add" if constant is not None:
                after = replace(before, offset=before.offset + constant)
            case "Sub" if constant is not None:
                after = replace(before, offset=before.offset - constant)
            case _:
                raise refusal(node)
        self._values[node.outputs[0]] = after

    def _constant(self, node: Node) -> float | None:
        """The second operand, where it is one constant number."""
        if len(node.inputs) != 2 or node.inputs[1] not in self._graph.tensors:
            return None
        tensor = self._graph.tensors[node.inputs[1]]
        return float(tensor.reshape(())) if tensor.size == 1 else None

    def _read_conv(self, node: Node) -> None:
        source, weight, *bias = node.inputs
        tensors = self._graph.tensors
        if weight not in tensors or not all(name in tensors for name in bias if name):
            raise refusal(node)
        kernel = tensors[weight]
        dims = kernel.ndim - 2
        attributes = node.attributes
        is_plain = attributes.get("group", 1) == 1 and attributes.get("auto_pad", "NOTSET") in (
            "NOTSET",
            "",
        )
        if not is_plain or dims not in (2, 3) or set(_sizes(node, "dilations", dims)) != {1}:
            raise refusal(node)
        value = self._values.get(source)
        if isinstance(value, PixelsValue):
            # Only the first conv sees pixels, and there is one way to it.
            if not value.is_channels_first or self._steps:
                raise refusal(node)
            self._steps.append(
                PixelNormalization(self._source, source, value.divisor, value.offset)
            )
            value = MapValue(source, _PIXEL_CHANNELS)
        if not isinstance(value, MapValue) or kernel.shape[1] != value.channels:
            raise refusal(node)
        pads = _sizes(node, "pads", 2 * dims, default=0)
        missing = 3 - dims
        self._steps.append(
            Conv(
                name=node.name,
                input=value.value,
                output=node.outputs[0],
                weight=kernel.reshape(*kernel.shape[:2], *[1] * missing, *kernel.shape[2:]),
                bias=np.asarray(tensors[bias[0]]) if bias and bias[0] else None,
                stride=_three(_sizes(node, "strides", dims), 1),
                pads_before=_three(pads[:dims], 0),
                pads_after=_three(pads[dims:], 0),
                normalization=value.normalization,
                residual=None,
                output_type="float16" if kernel.dtype == np.float16 else "float32",
            )
        )
        self._values[node.outputs[0]] = MapValue(node.outputs[0], kernel.shape[0])

    def _read_normalization(self, node: Node) -> None:
        source = self._map(node.inputs[0], node)
        tensors = self._graph.tensors
        channels = source.channels
        weight, bias = node.inputs[1:3]
        groups, epsilon = node.attributes.get("num_groups"), node.attributes.get("epsilon")
        if (
            source.normalization is not None
            # Only these leave moments.
            or not isinstance(self._writer(source)[1], Conv | AdaptiveNormalization)
            or weight not in tensors
            or bias not in tensors
            or not isinstance(groups, int)
            or not isinstance(epsilon, float)
            or not 0 < groups <= channels
            or channels % groups != 0
            or not tensors[weight].shape == tensors[bias].shape == (channels,)
            # A map keeps one set of moments.
            or self._groups.setdefault(source.value, groups) != groups
        ):
            raise refusal(node)
        normalization = Normalization(
            groups=groups,
            epsilon=epsilon,
            weight=np.asarray(tensors[weight], np.float32),
            bias=np.asarray(tensors[bias], np.float32),
            activation="silu" if node.operator == "magvit.GroupNormSiLU" else "none",
        )
        self._values[node.outputs[0]] = replace(source, normalization=normalization)

    def _read_sum(self, node: Node) -> None:
        """A sum of two convs becomes part of the one that runs last."""
        terms = [self._map(name, node) for name in node.inputs]
        first, last = sorted(terms, key=lambda term: self._writer(term)[0])
        index, conv = self._writer(last)
        if (
            not isinstance(conv, Conv)
            or conv.residual is not None
            or any(term.normalization is not None for term in terms)
            or first.channels != last.channels
            or not self._is_read_once(last, node)
        ):
            raise refusal(node)
        self._steps[index] = replace(conv, output=node.outputs[0], residual=first.value)
        self._values[node.outputs[0]] = MapValue(node.outputs[0], last.channels)

    def _read_cast(self, node: Node) -> None:
        source = self._map(node.inputs[0], node)
        to = node.attributes.get("to")
        if not isinstance(to, int) or to not in _FLOAT_TYPES:
            raise refusal(node)
        index, conv = self._writer(source)
        output = node.outputs[0]
        is_bare = source.normalization is None and self._is_read_once(source, node)
        # If all readers read a map as another type, it is written in that type.
        if isinstance(conv, Conv) and is_bare:
            self._steps[index] = replace(conv, output=output, output_type=_FLOAT_TYPES[to])
            source = replace(source, value=output)
        self._values[output] = source

    def _read_lfq(self, node: Node) -> None:
        latents, ids = self._map(node.inputs[0], node), node.outputs[0]
        if latents.normalization is not None:
            raise refusal(node)
        if latents.channels > _LARGEST_CODE:
            raise BackendError(f"the native backend makes ids of {_LARGEST_CODE} bits at most")
        self._steps.append(LookupFreeQuantization(latents.value, ids))
        self._values[ids] = IdsValue(ids)

    def _read_codebook(self, node: Node) -> None:
        latents, name = self._map(node.inputs[0], node), node.inputs[1]
        ids, margins = node.outputs
        if latents.normalization is not None or name not in self._graph.tensors:
            raise refusal(node)
        codebook = self._graph.tensors[name]
        if codebook.dtype != np.float32 or codebook.shape[1:] != (latents.channels,):
            raise refusal(node)
        self._steps.append(CodebookSearch(latents.value, ids, margins, codebook))
        self._values |= {ids: IdsValue(ids), margins: IdsValue(margins, "float32")}

    def _read_attention(self, node: Node) -> None:
        maps = [self._map(name, node) for name in node.inputs]
        is_bare = all(one.normalization is None for one in maps)
        if len(maps) != 3 or not is_bare or len({one.channels for one in maps}) != 1:
            raise refusal(node)
        queries, keys, values = (one.value for one in maps)
        (output,) = node.outputs
        self._steps.append(Attention(queries, keys, values, output))
        self._values[output] = MapValue(output, maps[0].channels)

    def _linear(self, node: Node) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Weight [C_out, C_in] and bias [C_out] of a Gemm that is y = x @ weight.T + bias."""
        tensors = self._graph.tensors
        attributes = {"alpha": 1.0, "beta": 1.0, "transA": 0, "transB": 0} | dict(node.attributes)
        is_plain = attributes == {"alpha": 1.0, "beta": 1.0, "transA": 0, "transB": 1}
        if (
            not is_plain
            or len(node.inputs) != 3
            or not all(name in tensors for name in node.inputs[1:])
        ):
            raise refusal(node)
        weight, bias = (np.array(tensors[name], np.float32) for name in node.inputs[1:])
        if weight.ndim != 2 or bias.shape != weight.shape[:1]:
            raise refusal(node)
        return weight, bias

    @property
    def _channels_last(self) -> tuple[int, ...]:
        """The axes of maps in the order of frames."""
        return tuple(self._layouts.maps.index(axis) for axis in self._layouts.frames)

    def _is_read_once(self, source: MapValue, node: Node) -> bool:
        """Whether nothing but a node reads what a step wrote, by any name."""
        return source.value in node.inputs and self._uses[source.value] == 1

    def _writer(self, source: MapValue) -> tuple[int, Step]:
        """The step that writes a map, after its index."""
        steps = reversed(list(enumerate(self._steps)))
        return next((i, step) for i, step in steps if step.output == source.value)

    def _map(self, name: str, node: Node) -> MapValue:
        value = self._values.get(name)
        if not isinstance(value, MapValue):
            raise refusal(node)
        return value


def _sizes(node: Node, name: str, count: int, default: int = 1) -> tuple[int, ...]:
    found = node.attributes.get(name, (default,) * count)
    if not isinstance(found, tuple) or len(found) != count:
        raise refusal(node)
    return found


def _three(sizes: Sequence[int], missing: int) -> Sizes:
    t, h, w = (*[missing] * (3 - len(sizes)), *sizes)
    return t, h, w
