"""The path fills its box, keeps its shape and survives extreme numbers."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from magvit_runtime.clips.trajectories import RenderStyle
from magvit_runtime.clips.trajectories.fitting import GRID, fit

STYLE = RenderStyle(height=101, width=201, margin=10)


def test_a_wide_path_reaches_left_and_right_and_keeps_its_shape() -> None:
    pixels = fit(np.array([[0.0, 0], [9, 1], [3, 0.5]]), STYLE) / GRID
    np.testing.assert_allclose(pixels, [[10, 40], [190, 60], [70, 50]], atol=1 / GRID)


def test_a_tall_path_reaches_top_and_bottom() -> None:
    pixels = fit(np.array([[5.0, 5], [6, 9]]), STYLE) / GRID
    np.testing.assert_allclose(pixels, [[90, 10], [110, 90]], atol=1 / GRID)


def test_y_up_mirrors_the_picture() -> None:
    xy = np.array([[0.0, 0], [1, 3], [2, 1]])
    down = fit(xy, STYLE)
    up = fit(xy, RenderStyle(height=101, width=201, margin=10, y_axis="up"))
    np.testing.assert_array_equal(up[:, 0], down[:, 0])
    np.testing.assert_array_equal(up[:, 1], 100 * GRID - down[:, 1])


def test_a_path_without_extent_is_at_the_centre() -> None:
    assert fit(np.full((3, 2), 7e8), STYLE).tolist() == [[100 * GRID, 50 * GRID]] * 3


@pytest.mark.parametrize("scale", [5e-324, 1e-300, 1e-9, 1e200, 1e300])
def test_extreme_numbers_fit_as_others_do(scale: float) -> None:
    xy = np.array([[-1.0, -1], [1, 1]])
    np.testing.assert_array_equal(fit(xy * scale, STYLE), fit(xy, STYLE))


@settings(max_examples=300, deadline=None, derandomize=True)
@given(
    st.lists(
        st.tuples(*[st.floats(-1e300, 1e300, allow_subnormal=True)] * 2), min_size=2, max_size=6
    )
)
def test_no_path_leaves_its_box(points: list[tuple[float, float]]) -> None:
    pixels = fit(np.array(points), STYLE)
    assert (pixels >= 10 * GRID - 1).all()
    assert (pixels <= np.array([190, 90]) * GRID + 1).all()
