"""The steps of a program that only decoders have: from ids to codes, up to finer maps, to bytes."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from magvit_runtime.backends.native.clip_shape import ClipShape
from magvit_runtime.errors import BackendError


@dataclass(frozen=True)
class SignCodes:
    """int32 ids to a feature map: channel i is +1 where bit i is set and -1 elsewhere.

    Attributes:
        input, output: The values that it reads and writes.
        bits: Channels.
    """

    input: str
    output: str
    bits: int

    @property
    def reads(self) -> tuple[str, ...]:
        """The values that it reads."""
        return (self.input,)

    def output_shape(self, shapes: Mapping[str, ClipShape]) -> ClipShape:
        """The output's shape for those of the values before."""
        return (*shapes[self.input][:3], self.bits)


@dataclass(frozen=True)
class CodebookRows:
    """int32 ids to a feature map: at each position the row that its id numbers.

    Attributes:
        input, output: The values that it reads and writes.
        codebook: float32 [rows, C].
    """

    input: str
    output: str
    codebook: NDArray[np.float32]

    @property
    def reads(self) -> tuple[str, ...]:
        """The values that it reads."""
        return (self.input,)

    def output_shape(self, shapes: Mapping[str, ClipShape]) -> ClipShape:
        """The output's shape for those of the values before."""
        return (*shapes[self.input][:3], self.codebook.shape[1])

    def check(self, ids: NDArray[Any]) -> None:
        """Checks ids.

        Raises:
            BackendError: One is no row.
        """
        rows = len(self.codebook)
        if ids.min() < 0 or ids.max() >= rows:
            raise BackendError(
                "an id is no row of the codebook",
                found=f"{ids.min()} … {ids.max()}",
                expected=f"0 … {rows - 1}",
            )


@dataclass(frozen=True)
class ChannelStatistic:
    """A vector of each clip: weight @ (spread or mean of a map's channels) + bias.

    The spread is √(unbiased variance + epsilon); the variance of a single position is 0.

    Attributes:
        map: The map.
        epsilon: Of the spread; None where the mean is taken.
        weight: float32 [C, channels of the map].
        bias: float32 [C].
    """

    map: str
    epsilon: float | None
    weight: NDArray[np.float32]
    bias: NDArray[np.float32]


@dataclass(frozen=True)
class AdaptiveNormalization:
    """GroupNorm of a feature map whose scale and shift are each clip's own.

    Attributes:
        input, output: The map that it reads, and the one that it writes, of the same shape.
        groups: Groups of channels; statistics run over (C / groups, T, H, W) of each clip.
        epsilon: Added to the variance.
        scale, shift: Of each channel.
    """

    input: str
    output: str
    groups: int
    epsilon: float
    scale: ChannelStatistic
    shift: ChannelStatistic

    @property
    def reads(self) -> tuple[str, ...]:
        """The values that it reads."""
        return (self.input, *dict.fromkeys((self.scale.map, self.shift.map)))

    def output_shape(self, shapes: Mapping[str, ClipShape]) -> ClipShape:
        """The output's shape for those of the values before."""
        return shapes[self.input]


@dataclass(frozen=True)
class DepthToSpace:
    """Blocks of positions out of channels, which are laid out (*block, C).

    Of the block that the first frame becomes, only the first frame is kept.

    Attributes:
        input, output: The values that it reads and writes.
        block: Frames, height and width of a block.
    """

    input: str
    output: str
    block: tuple[int, int, int]

    @property
    def reads(self) -> tuple[str, ...]:
        """The values that it reads."""
        return (self.input,)

    def output_shape(self, shapes: Mapping[str, ClipShape]) -> ClipShape:
        """The output's shape for those of the values before."""
        frames, height, width, channels = shapes[self.input]
        t, h, w = self.block
        return (frames - 1) * t + 1, height * h, width * w, channels // math.prod(self.block)


@dataclass(frozen=True)
class Repetition:
    """Each position of a map becomes a block of equal ones: nearest-neighbour upsampling.

    Attributes:
        input, output: The values that it reads and writes.
        height, width: Sizes of the block.
    """

    input: str
    output: str
    height: int
    width: int

    @property
    def reads(self) -> tuple[str, ...]:
        """The values that it reads."""
        return (self.input,)

    def output_shape(self, shapes: Mapping[str, ClipShape]) -> ClipShape:
        """The output's shape for those of the values before."""
        frames, height, width, channels = shapes[self.input]
        return frames, height * self.height, width * self.width, channels


@dataclass(frozen=True)
class PixelRounding:
    """A feature map to bytes: floor((clip(x, low, high) + offset) * scale + rounding), in float32.

    Attributes:
        input, output: The values that it reads and writes.
        low, high, offset, scale, rounding: The numbers of the formula.
    """

    input: str
    output: str
    low: float
    high: float
    offset: float
    scale: float
    rounding: float

    @property
    def reads(self) -> tuple[str, ...]:
        """The values that it reads."""
        return (self.input,)

    def output_shape(self, shapes: Mapping[str, ClipShape]) -> ClipShape:
        """The output's shape for those of the values before."""
        return shapes[self.input]
