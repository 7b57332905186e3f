"""A style that can't be drawn is refused with the limit it breaks."""

from __future__ import annotations

from typing import Any

import pytest

from magvit_runtime.clips.trajectories import RenderStyle
from magvit_runtime.errors import InputError


def test_the_largest_clip_can_be_asked_for() -> None:
    assert RenderStyle(frames=17, height=4320, width=7680).clip_bytes < 2**31


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"frames": 0}, "frames is too small: found 0, expected ≥ 1"),
        ({"height": 0}, "height is too small"),
        ({"width": 10**20}, f"width is too large: found {10**20}, expected ≤ 65535"),
        (
            {"height": 65535, "width": 65535},
            "found 17 frames of 65535×65535 pixels, 204.0 GiB, expected ≤ 4 GiB. Fix: lower frames",
        ),
        ({"frames": 65535, "height": 200}, "found 65535 frames of 200×128 pixels, 4.7 GiB"),
        ({"trail_width": 0}, "trail_width is too small: found 0, expected > 0"),
        ({"head_radius": float("nan")}, "head_radius is too small: found nan"),
        ({"margin": 3}, "no room for the head .* found 3, expected ≥ 3.5"),
        ({"head_radius": 2, "trail_width": 5}, "found 2 and 5, expected head_radius ≥ 2.5"),
        ({"head_radius": float("inf")}, "no room for the head"),
        ({"width": 25}, "no room for the path: found margin 12 in 128×25 pixels"),
        ({"background": 110}, "gray levels are out of order"),
        ({"head_level": 256}, "gray levels are out of order"),
        ({"background": -1}, "gray levels are out of order"),
        ({"y_axis": "left"}, "y_axis is unknown: found left, expected 'down' or 'up'"),
    ],
)
def test_unusable_styles(options: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        RenderStyle(**options)
