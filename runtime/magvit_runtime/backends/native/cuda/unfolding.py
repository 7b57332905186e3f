"""The first conv of an encoder as a product of a matrix and unfolded pixels.

cuDNN's kernels for a conv of three channels, padded to eight, are slow. A map with the pixels of a
whole window as each position's channels makes it a conv with a kernel of 1, which isn't.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from magvit_runtime.backends.native.cuda.conv_plans import ConvGeometry
from magvit_runtime.backends.native.cuda.maps import CHANNEL_MULTIPLE
from magvit_runtime.backends.native.program import (
    Conv,
    PixelNormalization,
    Program,
    channel_pitch,
)

# MAGVIT_MOST_UNFOLDED_CHANNELS of kernels/include/magvit/cuda_operators.h.
MOST_UNFOLDED_CHANNELS = 128

_ONE = (1, 1, 1)
_NO_PADS = (0, 0, 0)


def unfolded_pixels(program: Program, index: int) -> PixelNormalization | None:
    """The pixels that a conv reads unfolded; None if it reads its input as it is.

    It unfolds pixels that nothing else reads, if a window of them has few enough channels.

    Args:
        program: The program.
        index: Which of its steps.
    """
    conv = program.steps[index]
    if not isinstance(conv, Conv) or conv.kernel == _ONE or conv.normalization is not None:
        return None
    is_given = any(output.value == conv.input for output in program.outputs)
    is_shared = program.readers(conv.input) != (index,) or conv.residual == conv.input
    if is_given or is_shared or unfolded_channels(conv) > MOST_UNFOLDED_CHANNELS:
        return None
    pixels = (step for step in program.steps if isinstance(step, PixelNormalization))
    return next((step for step in pixels if step.output == conv.input), None)


def unfolded_channels(conv: Conv) -> int:
    """Channels of a conv's unfolded input: [kt, kh, kw, C_in]."""
    return math.prod(conv.weight.shape[1:])


def unfolded_geometry(conv: Conv, geometry: ConvGeometry) -> ConvGeometry:
    """The conv over its unfolded input, from the conv's own geometry.

    Its frames lie below each other as one, since cuDNN has more kernels for 2-D convs.
    """
    frames, height, width = geometry.output_sizes
    return replace(
        geometry,
        sizes=(1, frames * height, width),
        in_channels=channel_pitch(unfolded_channels(conv), CHANNEL_MULTIPLE),
        kernel=_ONE,
        stride=_ONE,
        pads_before=_NO_PADS,
        pads_after=_NO_PADS,
    )


def unfolded_weight(weight: NDArray[Any]) -> NDArray[Any]:
    """[C_out, C_in, kt, kh, kw] to [C_out, kt * kh * kw * C_in, 1, 1, 1]."""
    return np.moveaxis(weight, 1, -1).reshape(len(weight), -1, 1, 1, 1)
