"""What a classifier learns from: tokens of clips, or their features, in memory."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from magvit_runtime.errors import InputError


@dataclass(frozen=True)
class Tokens:
    """Token ids of N clips.

    Attributes:
        ids: int32 [N, t, h, w] or [N, h, w].
        vocabulary: How many ids there are.
    """

    ids: NDArray[np.int32]
    vocabulary: int

    @property
    def values(self) -> NDArray[np.int32]:
        """What a classifier takes."""
        return self.ids

    def take(self, rows: NDArray[np.intp]) -> Tokens:
        """Those of some clips."""
        return Tokens(self.ids[rows], self.vocabulary)


@dataclass(frozen=True)
class Features:
    """Features of N clips, or their coordinates: numbers.

    Attributes:
        values: float [N, ...], finite; taken as float32.
    """

    values: NDArray[np.floating[Any]]

    def take(self, rows: NDArray[np.intp]) -> Features:
        """Those of some clips."""
        return Features(self.values[rows])

    @property
    def size(self) -> int:
        """Numbers a clip."""
        return math.prod(self.values.shape[1:])


Source = Tokens | Features


def take(sources: Sequence[Source], rows: NDArray[np.intp]) -> tuple[Source, ...]:
    """Some clips of each source."""
    return tuple(source.take(rows) for source in sources)


def count_clips(sources: Sequence[Source]) -> int:
    """How many clips there are.

    Raises:
        InputError: There is no source, or they differ in it, or features aren't finite.
    """
    counts = {len(source.values) for source in sources}
    if len(counts) != 1:
        raise InputError("sources of a classifier hold the same clips", found=sorted(counts))
    for source in sources:
        if isinstance(source, Features) and not np.isfinite(source.values).all():
            raise InputError("a classifier takes finite features", found="NaN or infinity")
    return counts.pop()
