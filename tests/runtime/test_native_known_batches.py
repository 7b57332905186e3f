"""Which batch a few clips run in."""

from __future__ import annotations

from magvit_runtime.native.known_batches import KnownBatches


def test_clips_run_in_the_smallest_known_batch_that_holds_them() -> None:
    batches = KnownBatches()
    assert batches.fitting((3, 17, 128, 128, 3)) == (3, 17, 128, 128, 3)
    for size in (8, 2, 4):
        batches.add((size, 17, 128, 128, 3))
    found = {count: batches.fitting((count, 17, 128, 128, 3))[0] for count in (1, 2, 3, 4, 5, 8, 9)}
    assert found == {1: 2, 2: 2, 3: 4, 4: 4, 5: 8, 8: 8, 9: 9}


def test_clips_of_another_shape_are_no_measure() -> None:
    batches = KnownBatches()
    batches.add((8, 17, 128, 128, 3))
    assert batches.fitting((3, 17, 128, 64, 3)) == (3, 17, 128, 64, 3)
