"""Reads an encoder's ONNX graph as a `Program`, or says which of its nodes has no place in one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from magvit_runtime.backends.native.onnx_file import Graph, Node
from magvit_runtime.backends.native.program import Conv, Normalization, Program, Sizes
from magvit_runtime.errors import BackendError
from magvit_runtime.types import FloatType

_FLOAT_TYPES: dict[int, FloatType] = {1: "float32", 10: "float16"}
_PIXEL_CHANNELS = 3
_LARGEST_CODE = 31  # Bits of an id.
# From the layout of frames to that of feature maps, by the number of axes.
_CHANNELS_FIRST = {4: (0, 3, 1, 2), 5: (0, 4, 1, 2, 3)}


@dataclass(frozen=True)
class _Pixels:
    """The frames on their way to the first conv: a byte x is x / divisor + offset by now."""

    divisor: float = 1.0
    offset: float = 0.0
    is_channels_first: bool = False


@dataclass(frozen=True)
class _Map:
    """A feature map: what a conv wrote, or that as a normalisation leaves it."""

    value: str
    normalization: Normalization | None = None


def lower(graph: Graph) -> Program:
    """Reads a graph as a program.

    Args:
        graph: An encoder of the Open-MAGVIT2 family as `magvit export` writes it: pixels, convs
            behind GroupNorm and SiLU, residual sums, LFQ.

    Raises:
        BackendError: A node is none of those, or stands where a program has no place for it; the
            message names it.
    """
    if len(graph.inputs) != 1:
        raise BackendError(
            "the native backend runs encoders of one input", found=", ".join(graph.inputs)
        )
    return _Lowering(graph).program()


class _Lowering:
    """One graph's values and convs, as far as its nodes have been read."""

    def __init__(self, graph: Graph) -> None:
        self._graph = graph
        ((self._frames, self._rank),) = graph.inputs.items()
        self._values: dict[str, _Pixels | _Map] = {self._frames: _Pixels()}
        self._convs: list[Conv] = []
        self._uses = Counter(name for node in graph.nodes for name in node.inputs)
        self._uses.update(graph.outputs)
        self._groups: dict[str, int] = {}
        self._entry: tuple[str, _Pixels] | None = None

    def program(self) -> Program:
        latents = ids = None
        for node in self._graph.nodes:
            match node.operator:
                case "Conv":
                    self._read_conv(node)
                case "magvit.GroupNorm" | "magvit.GroupNormSiLU":
                    self._read_normalization(node)
                case "Add" if all(name in self._values for name in node.inputs):
                    self._read_sum(node)
                case "magvit.LFQ":
                    latents, ids = node.inputs[0], node.outputs[0]
                case "Cast" if isinstance(self._values.get(node.inputs[0]), _Map):
                    self._read_cast(node)
                case "Cast" | "Add" | "Sub" | "Div" | "Mul" | "Transpose":
                    self._read_pixels(node)
                case _:
                    raise _refusal(node)
        if latents is None or ids is None or self._entry is None:
            raise BackendError("the native backend runs encoders that end in LFQ")
        expected = {latents, ids}
        if set(self._graph.outputs) != expected:
            raise BackendError(
                "the native backend gives latents and ids",
                found=", ".join(self._graph.outputs),
                expected=", ".join(sorted(expected)),
            )
        pixels, entry = self._entry
        if not self._channels(self._map(latents)) <= _LARGEST_CODE:
            raise BackendError(f"the native backend makes ids of {_LARGEST_CODE} bits at most")
        return Program(
            frames=self._frames,
            is_video=self._rank == len(_CHANNELS_FIRST[5]),
            pixel_divisor=entry.divisor,
            pixel_offset=entry.offset,
            pixels=pixels,
            convs=tuple(self._convs),
            latents=self._map(latents).value,
            latents_output=latents,
            ids_output=ids,
        )

    def _read_pixels(self, node: Node) -> None:
        before = self._values.get(node.inputs[0])
        if not isinstance(before, _Pixels):
            raise _refusal(node)
        constant = self._constant(node)
        match node.operator:
            case "Cast":
                after = before
            case "Transpose" if node.attributes.get("perm") == _CHANNELS_FIRST[self._rank]:
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
                raise _refusal(node)
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
            raise _refusal(node)
        kernel = tensors[weight]
        dims = kernel.ndim - 2
        attributes = node.attributes
        is_plain = attributes.get("group", 1) == 1 and attributes.get("auto_pad", "NOTSET") in (
            "NOTSET",
            "",
        )
        if not is_plain or dims not in (2, 3) or set(_sizes(node, "dilations", dims)) != {1}:
            raise _refusal(node)
        value = self._values.get(source)
        if isinstance(value, _Pixels):
            # Only the first conv sees pixels, and there is one way to it.
            if not value.is_channels_first or self._entry is not None:
                raise _refusal(node)
            self._entry = source, value
            value = _Map(source)
        if value is None or kernel.shape[1] != self._channels(value):
            raise _refusal(node)
        pads = _sizes(node, "pads", 2 * dims, default=0)
        missing = 3 - dims
        self._convs.append(
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
        self._values[node.outputs[0]] = _Map(node.outputs[0])

    def _read_normalization(self, node: Node) -> None:
        source = self._map(node.inputs[0], node)
        tensors = self._graph.tensors
        channels = self._channels(source)
        weight, bias = node.inputs[1:3]
        groups, epsilon = node.attributes.get("num_groups"), node.attributes.get("epsilon")
        if (
            source.normalization is not None
            or weight not in tensors
            or bias not in tensors
            or not isinstance(groups, int)
            or not isinstance(epsilon, float)
            or not 0 < groups <= channels
            or channels % groups != 0
            or not tensors[weight].shape == tensors[bias].shape == (channels,)
            # One set of moments is kept of a map.
            or self._groups.setdefault(source.value, groups) != groups
        ):
            raise _refusal(node)
        normalization = Normalization(
            groups=groups,
            epsilon=epsilon,
            weight=np.asarray(tensors[weight], np.float32),
            bias=np.asarray(tensors[bias], np.float32),
            activation="silu" if node.operator == "magvit.GroupNormSiLU" else "none",
        )
        self._values[node.outputs[0]] = replace(source, normalization=normalization)

    def _read_sum(self, node: Node) -> None:
        """A sum is part of the conv that finishes last of the two that it adds."""
        terms = [(self._map(name, node), name) for name in node.inputs]
        if any(term.normalization is not None for term, _ in terms):
            raise _refusal(node)
        (_, residual), (index, name) = sorted((self._writer(term), name) for term, name in terms)
        if (
            index < 0
            or self._uses[name] != 1
            or self._convs[index].residual is not None
            or self._channels(terms[0][0]) != self._channels(terms[1][0])
        ):
            raise _refusal(node)
        self._convs[index] = replace(
            self._convs[index], output=node.outputs[0], residual=self._map(residual).value
        )
        self._values[node.outputs[0]] = _Map(node.outputs[0])

    def _read_cast(self, node: Node) -> None:
        source = self._map(node.inputs[0], node)
        to = node.attributes.get("to")
        if not isinstance(to, int) or to not in _FLOAT_TYPES:
            raise _refusal(node)
        index = self._writer(source)
        # What is read as another type everywhere is written as that.
        if source.normalization is None and index >= 0 and self._uses[node.inputs[0]] == 1:
            conv = replace(self._convs[index], output=node.outputs[0], output_type=_FLOAT_TYPES[to])
            self._convs[index] = conv
            source = _Map(conv.output)
        self._values[node.outputs[0]] = source

    def _writer(self, source: _Map) -> int:
        """Index of the conv that writes a map; -1 for pixels."""
        found = [i for i, conv in enumerate(self._convs) if conv.output == source.value]
        return found[-1] if found else -1

    def _channels(self, source: _Map) -> int:
        index = self._writer(source)
        return _PIXEL_CHANNELS if index < 0 else self._convs[index].weight.shape[0]

    def _map(self, name: str, node: Node | None = None) -> _Map:
        value = self._values.get(name)
        if isinstance(value, _Map):
            return value
        if node is not None:
            raise _refusal(node)
        raise BackendError("the native backend finds no feature map", found=name)


def _sizes(node: Node, name: str, count: int, default: int = 1) -> tuple[int, ...]:
    found = node.attributes.get(name, (default,) * count)
    if not isinstance(found, tuple) or len(found) != count:
        raise _refusal(node)
    return found


def _three(sizes: Sequence[int], missing: int) -> Sizes:
    t, h, w = (*[missing] * (3 - len(sizes)), *sizes)
    return t, h, w


def _refusal(node: Node) -> BackendError:
    return BackendError(
        f"the native backend can't run the node {node.name} ({node.operator})",
        expected="convs behind GroupNorm and SiLU, residual sums of convs, and LFQ",
        mend="use backend='onnxruntime'",
    )
