"""Feature maps in a GPU's memory: channels last, each position's channels padded."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from magvit_runtime.backends.native.program import Sizes, channel_pitch
from magvit_runtime.native_libraries.cuda_operators import DTYPES, MapStructure, Triple
from magvit_runtime.types import FloatType

# Channels of one access; tensor cores also need this multiple.
CHANNEL_MULTIPLE = 8


@dataclass(frozen=True)
class CudaMap:
    """Feature maps of a batch, [N, T, H, W, pitch], inside a border of zeros that may be empty.

    Attributes:
        buffer: Name of the buffer that they are in.
        dtype: Element type.
        batch: Clips.
        sizes: Frames, height and width, without the border.
        channels: Channels without the padding; those from here up to `pitch` are zero.
        before, after: Widths of the border in each of the three.
    """

    buffer: str
    dtype: FloatType
    batch: int
    sizes: Sizes
    channels: int
    before: Sizes = (0, 0, 0)
    after: Sizes = (0, 0, 0)

    @property
    def pitch(self) -> int:
        """Elements from one position to the next."""
        return channel_pitch(self.channels, CHANNEL_MULTIPLE)

    @property
    def size(self) -> int:
        """Bytes, with the border."""
        outside = (b + n + a for b, n, a in zip(self.before, self.sizes, self.after, strict=True))
        return self.batch * math.prod(outside) * self.pitch * np.dtype(self.dtype).itemsize

    def at(self, address: int) -> MapStructure:
        """The structure for where the buffer lies on the GPU."""
        return MapStructure(
            address,
            DTYPES[self.dtype],
            self.batch,
            Triple(*self.sizes),
            self.channels,
            self.pitch,
            Triple(*self.before),
            Triple(*self.after),
        )


def arrivals_bytes(batch: int) -> int:
    """Bytes in which the statistics passes of a stream count their blocks."""
    return batch * np.dtype(np.uint32).itemsize
