"""Fits linear layers whose weights change little from one place of a clip to the next.

Movements of a class pass near each other, seldom through the same place. What is learned at a place
should hold for those around it too. So features go through a Gaussian filter over height and width
before the fit, and the weights go back through it afterwards: w·(S x) = (Sᵀ w)·x. What is exported
is an ordinary layer of unfiltered features.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

# Standard deviations to try, in tokens. 0 doesn't filter.
SPREADS = (0.0, 1.0, 2.0)


class Block(NamedTuple):
    """Numbers of a source that a linear layer reads.

    Attributes:
        size: How many.
        grid: Their places, [t, h, w] or [h, w], each with as many numbers; () where they have none.
    """

    size: int
    grid: tuple[int, ...] = ()


def spreads_of(blocks: Sequence[Block]) -> tuple[float, ...]:
    """Those that can make a difference to a layer."""
    return SPREADS if any(max(block.grid[-2:], default=1) > 1 for block in blocks) else SPREADS[:1]


def smoothed(values: Tensor, blocks: Sequence[Block], spread: float) -> Tensor:
    """Features as the fit sees them.

    Args:
        values: Float [N, sizes of all blocks].
        blocks: What they are.
        spread: Standard deviation of the filter, in tokens.
    """
    return _filtered(values, blocks, spread, is_transposed=False)


def smoothed_back(weights: Tensor, blocks: Sequence[Block], spread: float) -> Tensor:
    """Weights of unfiltered features, of those that were fitted to filtered ones: both [K, D]."""
    return _filtered(weights, blocks, spread, is_transposed=True)


def _filtered(
    rows: Tensor, blocks: Sequence[Block], spread: float, *, is_transposed: bool
) -> Tensor:
    if spread == 0:
        return rows
    pieces = torch.split(rows, [block.size for block in blocks], dim=1)
    done = []
    for piece, block in zip(pieces, blocks, strict=True):
        if block.grid:
            *times, height, width = block.grid
            lines = [_gaussian(side, spread).to(rows) for side in (height, width)]
            down, across = (line.T for line in lines) if is_transposed else lines
            maps = piece.reshape(len(piece), math.prod(times), height, width, -1)
            piece = torch.einsum("yh,xw,nthwd->ntyxd", down, across, maps).flatten(1)
        done.append(piece)
    return torch.cat(done, dim=1)


def _gaussian(length: int, spread: float) -> Tensor:
    """The filter of a line: float [length, length], whose rows sum to 1 at the borders too."""
    places = torch.arange(length, dtype=torch.float64)
    return (-(places[:, None] - places).square() / (2 * spread**2)).softmax(dim=1)
