"""Lays out the buffers of one run in a single block of memory, by when each is in use."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

# The alignment of cudaMalloc itself.
ALIGNMENT = 256


@dataclass(frozen=True)
class Lifetime:
    """When a buffer is in use.

    Attributes:
        size: Its bytes.
        first, last: The first and the last step that read or write it.
    """

    size: int
    first: int
    last: int

    def meets(self, other: Lifetime) -> bool:
        """Whether a step needs both."""
        return self.first <= other.last and other.first <= self.last


@dataclass(frozen=True)
class Arena:
    """A block of memory and the buffers in it.

    Attributes:
        size: Its bytes.
        offsets: Where each buffer begins, a multiple of `ALIGNMENT`.
    """

    size: int
    offsets: Mapping[str, int]


def plan_arena(buffers: Mapping[str, Lifetime]) -> Arena:
    """Finds a place for every buffer; two share bytes only if no step needs both.

    The largest comes first. Each takes the lowest gap that it fits into ("greedy by size" of
    Pisarchyk & Lee, Efficient Memory Management for Deep Neural Net Inference, 2020).
    """
    offsets: dict[str, int] = {}
    for name, buffer in sorted(buffers.items(), key=lambda item: -item[1].size):
        taken = sorted(
            (offset, offset + buffers[other].size)
            for other, offset in offsets.items()
            if buffer.meets(buffers[other])
        )
        start = 0
        for begin, end in taken:
            if start + buffer.size <= begin:
                break
            start = max(start, -(-end // ALIGNMENT) * ALIGNMENT)
        offsets[name] = start
    size = max((offset + buffers[name].size for name, offset in offsets.items()), default=0)
    return Arena(size, offsets)
