"""Feature maps in a CPU's memory: channels last, each pixel's channels padded to whole vectors."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from magvit_runtime.backends.native.program import Normalization, channel_pitch

# MAGVIT_CHANNEL_MULTIPLE of magvit/operators.h: the floats of a vector.
CHANNEL_MULTIPLE = 16
TILE = 4
ALIGNMENT = 64

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Background:
    """The background values of a map, held once instead of at every place.

    Attributes:
        first_frames: int16 [ceil(H / 4), ceil(W / 4)]: frame from which a tile has its own values.
        values: float32 [T, height, width, pitch]: an all-background clip with a middle.
        counts: float32 [T, height, width]: pixels of the map that each of these stands for; None
            if no moments are wanted.
    """

    first_frames: NDArray[np.int16]
    values: Floats
    counts: Floats | None


@dataclass(frozen=True)
class FeatureMap:
    """A feature map of one clip.

    Attributes:
        values: float32 [T, H, W, pitch], of `aligned_floats`; padding channels are zero.
        channels: Channels without the padding.
        background: None if every value is in `values`.
    """

    values: Floats
    channels: int
    background: Background | None = None


@dataclass(frozen=True)
class Moments:
    """Mean and variance of each group of a map's channels: float64 [groups, 2]."""

    groups: NDArray[np.float64]

    def normalize(self, normalization: Normalization) -> tuple[Floats, Floats, Floats]:
        """Mean, scale and shift of each channel, padded to `CHANNEL_MULTIPLE`."""
        channels = len(normalization.weight)
        each = channels // normalization.groups
        mean, variance = (np.repeat(column, each) for column in self.groups.T)
        scale = normalization.weight / np.sqrt(variance + normalization.epsilon)
        return _padded(mean), _padded(scale), _padded(normalization.bias)


def aligned_floats(memory: NDArray[np.uint8], shape: tuple[int, ...]) -> Floats:
    """A float32 array within memory of `ALIGNMENT` bytes more, where convs can read and write."""
    offset = -memory.ctypes.data % ALIGNMENT
    return memory[offset : offset + math.prod(shape) * 4].view(np.float32).reshape(shape)


def _padded(values: NDArray[Any]) -> Floats:
    size = channel_pitch(len(values), CHANNEL_MULTIPLE)
    padded = aligned_floats(np.zeros(size * 4 + ALIGNMENT, np.uint8), (size,))
    padded[: len(values)] = values
    return padded
