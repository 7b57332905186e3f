"""Batches of exactly one size."""

from __future__ import annotations

import numpy as np
import pytest

from magvit_runtime.clips.batches import in_batches


@pytest.mark.parametrize("size", [1, 2, 4, 7])
def test_batches_are_full_and_every_clip_is_new_once(size: int) -> None:
    clips = np.arange(6, dtype=np.uint8).reshape(6, 1, 1, 1)
    batches = list(in_batches(clips, size))
    assert all(len(batch) == size for batch, _ in batches)
    np.testing.assert_array_equal(np.concatenate([batch[:new] for batch, new in batches]), clips)
