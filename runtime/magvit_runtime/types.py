"""Types that several layers share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Shape = tuple[int, ...]

# Of a token id, which is an int32 that isn't negative.
MAX_BITS = 31

# How the features of one item become a vector, if they do.
Pool = Literal["none", "mean"]

Activation = Literal["none", "silu"]
FloatType = Literal["float16", "float32"]
Flavour = Literal["tensorrt", "tensorrt-rtx"]
# What a graph computes in; "int8" is float32 with weights of 8 bits.
ComputePrecision = Literal["fp32", "fp16", "bf16", "tf32"]
Precision = Literal["fp32", "fp16", "bf16", "tf32", "int8"]


@dataclass(frozen=True)
class Classification:
    """Classes of N clips.

    Attributes:
        labels: The most probable class of each clip.
        probabilities: float32 [N, K] in 0..1, each row summing to 1, in the order of `classes`.
        classes: Name of each of the K classes.
    """

    labels: tuple[str, ...]
    probabilities: NDArray[np.float32]
    classes: tuple[str, ...]


@dataclass(frozen=True)
class Estimate:
    """A figure with its 95 % confidence interval.

    Attributes:
        value: The figure.
        low, high: Bounds of the interval; both NaN where none can be had.
    """

    value: float
    low: float
    high: float

    def overlaps(self, other: Estimate) -> bool:
        """Whether the intervals have a point in common: then no difference was shown."""
        return self.low <= other.high and other.low <= self.high
