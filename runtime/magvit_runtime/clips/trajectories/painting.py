"""Paints anti-aliased lines and discs into many pictures at once.

A line with round ends and a disc are the same shape: all pixels near a piece of line, which has
no length for a disc. Each piece is painted through small square windows of one fixed size that
follow it, so that NumPy works on thousands of windows at a time and only on pixels near the line.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from magvit_runtime.clips.trajectories.fitting import GRID

# A window follows the line for at most this many pixels; longer pieces get several windows.
STRIDE = 4
# Windows painted at once: their arrays stay in the processor's cache.
BLOCK = 1024


def paint(
    pictures: NDArray[np.uint8],
    picture: NDArray[np.int64],
    start: NDArray[np.int64],
    end: NDArray[np.int64],
    radius: NDArray[np.float64],
    level: NDArray[np.int64],
) -> None:
    """Paints pieces of line in place; where shapes overlap the brighter one stays.

    A pixel at distance d of the piece gets level · clip(radius + 0.5 - d, 0, 1), rounded.

    Args:
        pictures: uint8 [pictures, H, W], C-contiguous.
        picture: int64 [pieces], the picture that each piece is painted in.
        start: int64 [pieces, 2], x and y in 1/GRID pixel, at least radius + 0.5 pixels inside the
            picture.
        end: int64 [pieces, 2], likewise; equal to start for a disc.
        radius: float64 [pieces], of the disc, or half the width of the line, in pixels.
        level: int64 [pieces], gray level, 1 to 255.
    """
    _, height, width = pictures.shape
    canvas = pictures.reshape(-1)
    reach = (radius + 0.5) * GRID
    margin = int(np.ceil(reach.max(initial=0))) + 1
    side = (STRIDE * GRID + 1 + 2 * margin) // GRID + 1
    window_pixels = np.arange(side)

    piece, corner = _windows(start, end, margin)
    along_x, along_y, length = _directions(start, end)
    for first in range(0, len(piece), BLOCK):
        here = piece[first : first + BLOCK]
        origin = corner[first : first + BLOCK]
        columns = origin[:, :1] + window_pixels
        rows = origin[:, 1:] + window_pixels
        # Pixel positions from the piece's start, then turned to run along and across it.
        x = columns * GRID - start[here, :1]
        y = rows * GRID - start[here, 1:]
        ux, uy = along_x[here, None], along_y[here, None]
        along = (x * ux)[:, None, :] + (y * uy)[:, :, None]
        across = (x * uy)[:, None, :] - (y * ux)[:, :, None]
        beyond_ends = along - np.clip(along, 0, length[here, None, None])
        distance = np.sqrt(beyond_ends * beyond_ends + across * across)
        cover = np.clip((reach[here, None, None] - distance) / GRID, 0, 1)
        gray = (cover * level[here, None, None] + 0.5).astype(np.uint8)

        # Gray pixels are inside the picture, though a window may reach out of it.
        places = (picture[here, None] * height + rows)[:, :, None] * width + columns[:, None, :]
        drawn = np.nonzero(gray > 0)
        np.maximum.at(canvas, places[drawn], gray[drawn])


def _windows(
    start: NDArray[np.int64], end: NDArray[np.int64], margin: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Returns each window's piece, int64 [windows], and first pixel (x, y), int64 [windows, 2]."""
    delta = end - start
    windows = np.maximum(1, -(-np.abs(delta).max(axis=1) // (STRIDE * GRID)))
    piece = np.repeat(np.arange(len(start)), windows)
    place = np.arange(len(piece)) - (np.cumsum(windows) - windows)[piece]
    parts, place = windows[piece][:, None], place[:, None]
    low = np.minimum(delta[piece] * place // parts, delta[piece] * (place + 1) // parts)
    return piece, -((margin - start[piece] - low) // GRID)


def _directions(
    start: NDArray[np.int64], end: NDArray[np.int64]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Returns the unit vector's x and y and the length of each piece, float64 [pieces]."""
    x, y = (end - start).astype(np.float64).T
    length = np.sqrt(x * x + y * y)
    # A disc has no direction: any does.
    divisor = np.where(length > 0, length, 1)
    return np.where(length > 0, x / divisor, 1), y / divisor, length
