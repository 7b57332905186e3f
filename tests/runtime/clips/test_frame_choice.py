"""Which frames of a clip of any length a model of fixed length sees."""

from __future__ import annotations

import numpy as np
import pytest

from magvit_runtime.clips.frame_choice import evenly_chosen


@pytest.mark.parametrize(
    ("count", "wanted", "expected"),
    [
        (16, 16, list(range(16))),
        (17, 16, [0, 1, 2, 3, 4, 5, 6, 7, 9, 10, 11, 12, 13, 14, 15, 16]),
        (33, 5, [0, 8, 16, 24, 32]),
        (3, 5, [0, 1, 1, 2, 2]),
        (1, 4, [0, 0, 0, 0]),
        (9, 1, [4]),
        (8, 1, [3]),
    ],
)
def test_frames_are_spread_evenly(count: int, wanted: int, expected: list[int]) -> None:
    assert evenly_chosen(count, wanted).tolist() == expected


@pytest.mark.parametrize("count", [2, 15, 18, 100, 12_345])
@pytest.mark.parametrize("wanted", [2, 8, 16, 32])
def test_they_begin_and_end_the_clip_and_are_half_a_frame_off_at_most(
    count: int, wanted: int
) -> None:
    found = evenly_chosen(count, wanted)
    assert (found[0], found[-1]) == (0, count - 1)
    assert np.abs(found - np.linspace(0, count - 1, wanted)).max() <= 0.5 + 1e-9
    assert (np.diff(found) >= 0).all()
