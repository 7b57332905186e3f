"""What a graph computes, as steps from its inputs to its outputs; the same for every device.

Each step reads values and writes one. Most steps are convs. A conv reads its input through a
normalisation, adds a residual to its result, and computes the moments that the next normalisation
needs:

    y = conv(activation(normalize(x))) + bias + residual

Values are feature maps of one clip batch, [N, T, H, W, C] in memory; images have T = 1. Bytes and
ids are values too; ids have C = 1.

A new kind of step is a dataclass here or in a file of its own, with `output`, `reads` and
`output_shape`, a case in `lowering`, and a case where each device walks the steps.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from magvit_runtime.backends.native.attention import Attention as Attention
from magvit_runtime.backends.native.classifier_steps import ClassifierStep
from magvit_runtime.backends.native.clip_shape import ClipShape as ClipShape
from magvit_runtime.backends.native.codebook import CodebookSearch as CodebookSearch
from magvit_runtime.backends.native.decoder_steps import (
    AdaptiveNormalization,
    CodebookRows,
    DepthToSpace,
    PixelRounding,
    Repetition,
    SignCodes,
)
from magvit_runtime.errors import BackendError
from magvit_runtime.types import Activation, Array, FloatType, Shape

Sizes = tuple[int, int, int]
# The axes of an input or output, a letter each.
Layout = Literal["NTHWC", "NHWC", "NCTHW", "NCHW", "NTHW", "NHW", "NC"]


@dataclass(frozen=True)
class Input:
    """An input of the graph, and the value of that name.

    Attributes:
        name: Its name.
        dtype: Element type.
        layout: Its axes.
        channels: Size of the axis C; 1 where there is none.
    """

    name: str
    dtype: Literal["uint8", "int32"]
    layout: Layout
    channels: int

    @property
    def description(self) -> str:
        """What it takes, as text for people."""
        shape = ", ".join(self.layout).replace("C", str(self.channels))
        return f"{self.name} {self.dtype} [{shape}], none of them 0"

    def takes(self, dtype: np.dtype[Any], shape: Shape) -> bool:
        """Whether it takes arrays of a type and shape."""
        return (
            dtype == self.dtype
            and len(shape) == len(self.layout)
            and ("C" not in self.layout or shape[-1] == self.channels)
            and 0 not in shape
        )

    def clips(self, array: Array) -> Array:
        """An array that it takes with an axis of time, [N, T, H, W(, C)], which images lack."""
        return array if "T" in self.layout else array[:, None]

    def clip_shape(self, shape: Shape) -> ClipShape:
        """Shape of one clip of an array that it takes."""
        channels = () if "C" in self.layout else (self.channels,)
        t, h, w, c = (1, *shape[1:], *channels)[-4:]
        return t, h, w, c


@dataclass(frozen=True)
class Output:
    """An output of the graph.

    Attributes:
        name: Its name.
        value: The value that it gives.
        layout: Its axes.
        dtype: Element type.
    """

    name: str
    value: str
    layout: Layout
    dtype: Literal["int32", "float32", "uint8"]

    @property
    def is_map(self) -> bool:
        """Whether it is a feature map, and no ids, bytes or probabilities."""
        return "C" in self.layout and "H" in self.layout and self.dtype == "float32"

    def shape(self, batch: int, value: ClipShape) -> Shape:
        """Its shape for a number of clips, from the value's shape for one clip."""
        sizes = dict(zip("NTHWC", (batch, *value), strict=True))
        return tuple(sizes[axis] for axis in self.layout)


@dataclass(frozen=True)
class PixelNormalization:
    """Bytes to a feature map: byte / divisor + offset, in float32.

    Attributes:
        input, output: The values that it reads and writes.
        divisor, offset: The same for every channel.
    """

    input: str
    output: str
    divisor: float
    offset: float

    @property
    def reads(self) -> tuple[str, ...]:
        """The values that it reads."""
        return (self.input,)

    def output_shape(self, shapes: Mapping[str, ClipShape]) -> ClipShape:
        """The output's shape for those of the values before."""
        return shapes[self.input]


@dataclass(frozen=True)
class Normalization:
    """GroupNorm of a feature map, then an activation.

    Attributes:
        groups: Groups of channels; statistics run over (C / groups, T, H, W) of each clip.
        epsilon: Added to the variance.
        weight, bias: float32 [C].
        activation: "silu" is y·sigmoid(y).
    """

    groups: int
    epsilon: float
    weight: NDArray[np.float32]
    bias: NDArray[np.float32]
    activation: Activation


@dataclass(frozen=True)
class Conv:
    """A conv with all that is fused into it.

    Attributes:
        name: The graph node's name, which begins with the torch module's path.
        input: Value that it reads.
        output: Value that it writes.
        weight: [C_out, C_in, kt, kh, kw], of the type that the conv computes in.
        bias: [C_out], or None.
        stride: Of time, height and width.
        pads_before, pads_after: Zeros around the normalised input, in each of the three.
        normalization: Applied to the input first, but not to its padding; None for none.
        residual: Value of the output's shape that is added to the result; None for none.
        output_type: Type of the output; the sum with the residual is rounded to it once.
    """

    name: str
    input: str
    output: str
    weight: NDArray[Any]
    bias: NDArray[Any] | None
    stride: Sizes
    pads_before: Sizes
    pads_after: Sizes
    normalization: Normalization | None
    residual: str | None
    output_type: FloatType

    @property
    def reads(self) -> tuple[str, ...]:
        """The values that it reads."""
        return (self.input,) if self.residual is None else (self.input, self.residual)

    @property
    def kernel(self) -> Sizes:
        """Sizes of the kernel in time, height and width."""
        kt, kh, kw = self.weight.shape[2:]
        return kt, kh, kw

    def output_sizes(self, sizes: Sizes) -> Sizes:
        """Frames, height and width of the output, from those of the input."""
        axes = zip(sizes, self.kernel, self.stride, self.pads_before, self.pads_after, strict=True)
        t, h, w = ((n + b + a - k) // s + 1 for n, k, s, b, a in axes)
        return t, h, w

    def output_shape(self, shapes: Mapping[str, ClipShape]) -> ClipShape:
        """The output's shape for those of the values before.

        Raises:
            BackendError: The input is too small, or the residual isn't of the output's shape.
        """
        sizes = shapes[self.input][:3]
        written = (*self.output_sizes(sizes), self.weight.shape[0])
        if min(written) < 1 or (self.residual is not None and shapes[self.residual] != written):
            raise BackendError(
                "the native backend can't run clips of this size",
                found=f"{self.name} would make {list(written[:3])} of {list(sizes)}",
                mend="use larger clips",
            )
        return written


@dataclass(frozen=True)
class LookupFreeQuantization:
    """A feature map to int32 ids: bit i is 1 where channel i is above zero, channel 0 lowest.

    Attributes:
        input, output: The values that it reads, of 1 to 31 channels, and writes.
    """

    input: str
    output: str

    @property
    def reads(self) -> tuple[str, ...]:
        """The values that it reads."""
        return (self.input,)

    def output_shape(self, shapes: Mapping[str, ClipShape]) -> ClipShape:
        """The output's shape for those of the values before."""
        return (*shapes[self.input][:3], 1)


Step = (
    PixelNormalization
    | Conv
    | LookupFreeQuantization
    | Attention
    | CodebookSearch
    | SignCodes
    | CodebookRows
    | AdaptiveNormalization
    | DepthToSpace
    | Repetition
    | PixelRounding
    | ClassifierStep
)


@dataclass(frozen=True)
class Program:
    """A graph.

    Attributes:
        inputs: The program's inputs.
        steps: Its steps, in an order in which they can run.
        outputs: The program's outputs.
    """

    inputs: tuple[Input, ...]
    steps: tuple[Step, ...]
    outputs: tuple[Output, ...]

    @property
    def convs(self) -> tuple[Conv, ...]:
        """The steps that are convs."""
        return tuple(step for step in self.steps if isinstance(step, Conv))

    def readers(self, value: str) -> tuple[int, ...]:
        """Indices of the steps that read a value."""
        return tuple(i for i, step in enumerate(self.steps) if value in step.reads)

    def shapes(self, inputs: Mapping[str, ClipShape]) -> dict[str, ClipShape]:
        """Shapes of all values, from those of the inputs.

        Raises:
            BackendError: A step can't take what it reads.
        """
        shapes = dict(inputs)
        for step in self.steps:
            shapes[step.output] = step.output_shape(shapes)
            if isinstance(step, CodebookSearch):
                shapes[step.margins] = shapes[step.output]
        return shapes


def channel_pitch(channels: int, multiple: int) -> int:
    """Elements from one position of a map to the next: channels, padded to a multiple."""
    return -(-channels // multiple) * multiple
