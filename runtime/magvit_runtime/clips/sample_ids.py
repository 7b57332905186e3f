"""Token ids on which decoders are compared: any, drawn, and few ones.

One id everywhere isn't among them: a map that is constant has no spread, so its normalisation makes
noise of the least rounding, and no encoder gives such ids, since it sees the border of the picture.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

TOKENS, ROWS, COLUMNS = 5, 16, 16
# No size is a power of two or equal to another.
ODD_TOKENS, ODD_ROWS, ODD_COLUMNS = 3, 6, 7
IDS_NAMES = ("any", "drawn", "few")
FEW = 4


def usual_grid(grid: Sequence[int | str]) -> tuple[int, ...]:
    """A grid with its named sizes chosen: 5 by 16 by 16 tokens."""
    return _chosen(grid, {"t": TOKENS, "h": ROWS, "w": COLUMNS})


def odd_grid(grid: Sequence[int | str]) -> tuple[int, ...]:
    """A grid with its named sizes chosen odd: 3 by 6 by 7 tokens."""
    return _chosen(grid, {"t": ODD_TOKENS, "h": ODD_ROWS, "w": ODD_COLUMNS})


def verification_ids(grid: tuple[int, ...], vocabulary: int) -> NDArray[np.int32]:
    """The ids of `IDS_NAMES`: int32 [3, t, h, w] or [3, h, w], seeded.

    Any ids; one id with others where a stroke passes; and four ids alone.

    Args:
        grid: Tokens of one clip.
        vocabulary: Number of ids.
    """
    generator = np.random.default_rng(0)
    random = generator.integers(0, vocabulary, (2, *grid))
    row, column = np.indices(grid)[-2:]
    middle = grid[-2] // 2 + (grid[-2] / 3) * np.sin(column * 0.7)
    drawn = np.where(np.abs(row - middle) < 1, random[1], random[1].flat[0])
    few = random[0].flat[:FEW][generator.integers(0, min(FEW, random[0].size), grid)]
    return np.stack([random[0], drawn, few]).astype(np.int32)


def _chosen(grid: Sequence[int | str], sizes: dict[str, int]) -> tuple[int, ...]:
    return tuple(size if isinstance(size, int) else sizes[size] for size in grid)
