"""Display matrices against their definition, pixel by pixel."""

from __future__ import annotations

import itertools
import struct

import numpy as np
import pytest

from magvit_runtime import InputError
from magvit_runtime.clips.display_matrix import parse_matrix, turned

SIGNS = list(itertools.product((1, -1), repeat=2))
RIGHT_ANGLES = [(p, 0, 0, q) for p, q in SIGNS] + [(0, p, q, 0) for p, q in SIGNS]


@pytest.mark.parametrize("scale", [1, 65536, 92682])
@pytest.mark.parametrize("signs", RIGHT_ANGLES)
def test_each_pixel_goes_where_the_matrix_says(signs: tuple[int, ...], scale: int) -> None:
    a, b, c, d = signs
    picture = np.arange(3 * 5 * 3, dtype=np.uint8).reshape(3, 5, 3)
    matrix = (a * scale, b * scale, 0, c * scale, d * scale, 0, 7, 9, 1 << 30)
    shown = turned(picture, matrix)
    assert shown.shape == ((3, 5, 3) if a else (5, 3, 3))
    places = {(a * x + c * y, b * x + d * y): (x, y) for x in range(5) for y in range(3)}
    # The picture begins at its least column and row, wherever the matrix puts them.
    left, top = (min(place[i] for place in places) for i in range(2))
    for (column, row), (x, y) in places.items():
        np.testing.assert_array_equal(shown[row - top, column - left], picture[y, x])


def test_numbers_are_read_as_ffmpeg_writes_them() -> None:
    numbers = (0, 65536, 0, -65536, 0, 0, 8388608, -5, 1 << 30)
    assert parse_matrix(struct.pack("=9i", *numbers)) == numbers


@pytest.mark.parametrize(
    "matrix",
    [(1, 1, 0, -1, 1, 0), (1, 0, 0, 0, 0, 0), (0, 0, 0, 1, 0, 0), (1, 0, 5, 0, 1, 0)],
    ids=["an eighth", "a line", "another line", "perspective"],
)
def test_what_is_no_right_angle(matrix: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match="something else than a right angle"):
        turned(np.zeros((3, 5, 3), np.uint8), (*matrix, 0, 0, 1 << 30))
