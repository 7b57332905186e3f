"""Turns a video's frames as players do: by the display matrix that phones write instead of turning.

A matrix (a b u, c d v, x y w) shows the pixel at column x and row y at column a·x + c·y and row
b·x + d·y. Its lengths don't matter, as they don't to players: only its turns and mirrors do.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from magvit_runtime.errors import InputError

Matrix = tuple[int, ...]
MATRIX_BYTES = 36


def parse_matrix(content: bytes) -> Matrix:
    """The nine numbers (a, b, u, c, d, v, x, y, w) of a matrix as FFmpeg gives it."""
    return tuple(int(number) for number in np.frombuffer(content[:MATRIX_BYTES], np.int32))


def turned(picture: NDArray[np.uint8], matrix: Matrix) -> NDArray[np.uint8]:
    """A picture as the matrix shows it.

    Args:
        picture: uint8 [H, W, 3].
        matrix: A turn by 90, 180 or 270 degrees, a mirror, both, or neither. One of zeros, which
            some cameras write, is neither.

    Returns:
        uint8 [H, W, 3] or [W, H, 3]; a view of the same pixels.

    Raises:
        InputError: The matrix does something else.
    """
    a, b, u, c, d, v = matrix[:6]
    if not any((a, b, c, d)):
        return picture
    stays, swaps = (b, c) == (0, 0), (a, d) == (0, 0)
    if u or v or not (stays or swaps) or (stays and not a * d) or (swaps and not b * c):
        raise InputError(
            "a video is turned by something else than a right angle",
            found=f"the display matrix {a / 65536:g} {b / 65536:g} {c / 65536:g} {d / 65536:g}",
            mend="turn it upright first: ffmpeg -i VIDEO -c:v ffv1 upright.mkv",
        )
    shown = picture.transpose(1, 0, 2) if swaps else picture
    to_right, to_bottom = (c, b) if swaps else (a, d)
    return shown[:: -1 if to_bottom < 0 else 1, :: -1 if to_right < 0 else 1]
