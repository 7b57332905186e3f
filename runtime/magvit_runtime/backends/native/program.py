"""What an encoder computes, as a sequence of fused convs; the same for every device.

Each conv reads its input through a normalisation, adds a residual to its result, and leaves the
moments that the next normalisation needs:

    y = conv(activation(normalize(x))) + bias + residual

Values are feature maps of one clip batch, [N, T, H, W, C] in memory; images have T = 1.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from magvit_runtime.types import Activation, FloatType

Sizes = tuple[int, int, int]


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
        normalization: Applied to the input first, padding excepted; None for none.
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
    def kernel(self) -> Sizes:
        """Sizes of the kernel in time, height and width."""
        kt, kh, kw = self.weight.shape[2:]
        return kt, kh, kw

    def output_sizes(self, sizes: Sizes) -> Sizes:
        """Frames, height and width of the output for those of the input."""
        axes = zip(sizes, self.kernel, self.stride, self.pads_before, self.pads_after, strict=True)
        t, h, w = ((n + b + a - k) // s + 1 for n, k, s, b, a in axes)
        return t, h, w


@dataclass(frozen=True)
class Program:
    """An encoder: pixels to latents by convs, and latents to ids.

    Attributes:
        frames: Name of the input, uint8 [N, T, H, W, 3] (or [N, H, W, 3] for images).
        is_video: Whether the input has a time axis.
        pixel_divisor, pixel_offset: A byte x enters as x / divisor + offset, in float32.
        pixels: Value that the normalised pixels are.
        convs: In an order in which they can run.
        latents: Value that the latents are; its layout outside is [N, C, T, H, W].
        latents_output, ids_output: Names of the graph's outputs.
    """

    frames: str
    is_video: bool
    pixel_divisor: float
    pixel_offset: float
    pixels: str
    convs: tuple[Conv, ...]
    latents: str
    latents_output: str
    ids_output: str

    def readers(self, value: str) -> tuple[int, ...]:
        """Indices of the convs that read a value, as input or as residual."""
        return tuple(i for i, conv in enumerate(self.convs) if value in (conv.input, conv.residual))

    def normalization_of(self, value: str) -> Normalization | None:
        """The normalisation that a value is read through, if any; its groups are the moments'."""
        for conv in self.convs:
            if conv.input == value and conv.normalization is not None:
                return conv.normalization
        return None


def channel_pitch(channels: int, multiple: int) -> int:
    """Elements from one position of a map to the next: channels, padded to a multiple."""
    return -(-channels // multiple) * multiple
