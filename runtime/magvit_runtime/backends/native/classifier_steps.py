"""The steps of a program that only classifiers have: from ids to codes, from a map to classes."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from magvit_runtime.backends.native.clip_shape import ClipShape
from magvit_runtime.errors import BackendError


@dataclass(frozen=True)
class DigitRows:
    """int32 ids to a feature map: the sum of two tables' rows, for the low and the high digit.

    Attributes:
        input, output: The values that it reads and writes.
        low: float32 [base, C], of which an id takes the row id % base.
        high: float32 [rows, C], of which it takes the row id // base.
    """

    input: str
    output: str
    low: NDArray[np.float32]
    high: NDArray[np.float32]

    @property
    def reads(self) -> tuple[str, ...]:
        """The values that it reads."""
        return (self.input,)

    def output_shape(self, shapes: Mapping[str, ClipShape]) -> ClipShape:
        """The output's shape for those of the values before."""
        return (*shapes[self.input][:3], self.low.shape[1])


@dataclass(frozen=True)
class Rectification:
    """A feature map without what is below zero.

    Attributes:
        input, output: The values that it reads and writes.
    """

    input: str
    output: str

    @property
    def reads(self) -> tuple[str, ...]:
        """The values that it reads."""
        return (self.input,)

    def output_shape(self, shapes: Mapping[str, ClipShape]) -> ClipShape:
        """The output's shape for those of the values before."""
        return shapes[self.input]


@dataclass(frozen=True)
class Classes:
    """A feature map to probabilities: softmax(weight @ map + bias).

    Attributes:
        input, output: The values that it reads and writes; the output has K channels alone.
        weight: float32 [K, T·H·W·C].
        bias: float32 [K].
        is_channels_first: Whether the weights' columns are laid out (C, T, H, W); otherwise
            (T, H, W, C).
    """

    input: str
    output: str
    weight: NDArray[np.float32]
    bias: NDArray[np.float32]
    is_channels_first: bool

    @property
    def reads(self) -> tuple[str, ...]:
        """The values that it reads."""
        return (self.input,)

    def output_shape(self, shapes: Mapping[str, ClipShape]) -> ClipShape:
        """The output's shape for those of the values before.

        Raises:
            BackendError: The weights are of clips of another size.
        """
        count, numbers = self.weight.shape
        if math.prod(shapes[self.input]) != numbers:
            raise BackendError(
                "this classifier takes clips of one size",
                found=f"{math.prod(shapes[self.input])} numbers of a clip",
                expected=numbers,
            )
        return 1, 1, 1, count


@dataclass(frozen=True)
class Mixture:
    """The probabilities of several classifiers to their sum times a number.

    Attributes:
        inputs: The values that it reads.
        output: The value that it writes.
        scale: The number, one over how many they are.
    """

    inputs: tuple[str, ...]
    output: str
    scale: float

    @property
    def reads(self) -> tuple[str, ...]:
        """The values that it reads."""
        return self.inputs

    def output_shape(self, shapes: Mapping[str, ClipShape]) -> ClipShape:
        """The output's shape for those of the values before."""
        return shapes[self.inputs[0]]


ClassifierStep = DigitRows | Rectification | Classes | Mixture
