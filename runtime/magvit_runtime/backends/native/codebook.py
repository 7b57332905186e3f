"""The step of a program that finds the rows of a codebook that fit best."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from magvit_runtime.backends.native.clip_shape import ClipShape


@dataclass(frozen=True)
class CodebookSearch:
    """A feature map to int32 ids: the row of a codebook with the largest dot product.

    Of equal products the lowest row counts; a NaN is above all others.

    Attributes:
        input: The value that it reads.
        output: The ids that it writes.
        margins: What it writes besides: float32, the largest product less the second largest.
        codebook: float32 [rows, C].
    """

    input: str
    output: str
    margins: str
    codebook: NDArray[np.float32]

    @property
    def reads(self) -> tuple[str, ...]:
        """The values that it reads."""
        return (self.input,)

    def output_shape(self, shapes: Mapping[str, ClipShape]) -> ClipShape:
        """The shape of ids, and of margins, for those of the values before."""
        return (*shapes[self.input][:3], 1)
