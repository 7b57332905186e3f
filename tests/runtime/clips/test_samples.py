"""Clips for verification, of any model's shape."""

from __future__ import annotations

import numpy as np
import pytest

from magvit_runtime.clips.samples import (
    CLIP_NAMES,
    odd_shape,
    verification_clips,
)


@pytest.mark.parametrize(
    "shape", [(17, 128, 128, 3), ("frames", 64, 48, 3), (256, 256, 3), (5, 9, 7, 3), (1, 2, 2, 3)]
)
def test_clips_for_any_model(shape: tuple[int | str, ...]) -> None:
    clips = verification_clips(shape)
    assert clips.dtype == np.uint8
    assert len(clips) == len(CLIP_NAMES)
    assert clips.shape[1:] == tuple(17 if size == "frames" else size for size in shape)
    drawn, noise, grey, black, white, checkerboard = clips
    assert 0 < (drawn > 0).mean() <= 0.5
    assert noise.std() > 60
    assert [set(np.unique(clip)) for clip in (grey, black, white)] == [{128}, {0}, {255}]
    assert set(np.unique(checkerboard)) == {0, 255}
    assert (np.diff(checkerboard.astype(int), axis=-2) != 0).all()


def test_they_are_the_same_every_time() -> None:
    shape = (5, 32, 32, 3)
    np.testing.assert_array_equal(verification_clips(shape), verification_clips(shape))


def test_odd_sizes_replace_named_ones_only() -> None:
    assert odd_shape(("frames", "height", 64, 3)) == (7, 45, 64, 3)
