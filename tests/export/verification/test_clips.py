"""Real movements among the clips of `magvit verify`."""

from __future__ import annotations

import numpy as np
import pytest

from magvit_export.verification.clips import MOVEMENTS, movement_clips


@pytest.mark.parametrize("shape", [(17, 128, 128, 3), (5, 16, 16, 3), (64, 48, 3), (3, 4, 4, 3)])
def test_movements_at_any_size(shape: tuple[int, ...]) -> None:
    ((names, clips),) = movement_clips(shape)
    assert clips.shape == (MOVEMENTS, *shape)
    assert len(set(names)) == MOVEMENTS
    assert all((clip > 0).any() for clip in clips)
    # Mostly background, as trajectory videos are.
    assert np.median(clips) == 0


def test_where_nothing_can_be_drawn_there_are_none() -> None:
    assert list(movement_clips((5, 3, 16, 3))) == []
