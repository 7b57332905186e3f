"""The clips of a benchmark, and the work of encoding them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from magvit_runtime import InputError, open_bundle
from magvit_runtime.backends.native.lowering import lower
from magvit_runtime.benchmarks.work import encoder_work
from magvit_runtime.benchmarks.workload import input_sets
from magvit_runtime.bundle.onnx_file import read_graph

SHAPE = (5, 32, 48, 3)


def test_clips_are_the_same_at_every_batch_size_and_different_from_each_other() -> None:
    singles = input_sets("drawn", SHAPE, 4, 1)
    pairs = input_sets("drawn", SHAPE, 2, 2)
    clips = np.concatenate([one.clips for one in singles])
    assert clips.shape == (4, *SHAPE)
    assert np.array_equal(clips, np.concatenate([one.clips for one in pairs]))
    assert len({clip.tobytes() for clip in clips}) == 4


def test_drawn_clips_are_what_their_rendering_gives() -> None:
    (one,) = input_sets("drawn", SHAPE, 1, 2)
    assert np.array_equal(one.render(), one.clips)


def test_noise_covers_the_whole_range_and_has_nothing_to_render() -> None:
    (one,) = input_sets("noise", SHAPE, 1, 2)
    assert (one.clips.min(), one.clips.max()) == (0, 255)
    assert one.trajectories == ()


def test_images_have_no_time_axis() -> None:
    assert input_sets("drawn", (32, 32, 3), 1, 2)[0].clips.shape == (2, 32, 32, 3)


def test_clips_without_room_are_refused() -> None:
    with pytest.raises(InputError, match="too small to draw on"):
        input_sets("drawn", (5, 2, 32, 3), 1, 1)


def test_work_of_the_small_preset_is_what_its_architecture_says(small_bundle: Path) -> None:
    """Counted by hand from the config, ch 32 and multipliers 1, 2, 2, 4, one block a level."""
    bundle = open_bundle(small_bundle)
    graph = bundle.verified_graph(bundle.graph("encode")[1])
    work = encoder_work(lower(read_graph(graph)), (17, 128, 128, 3))
    full, half, quarter, eighth = 17 * 128**2, 17 * 64**2, 9 * 32**2, 5 * 16**2
    cubic = 27 * (
        full * (3 * 32 + 2 * 32 * 32)
        + half * (32 * 32 + 32 * 64 + 64 * 64)
        + quarter * (64 * 64 + 2 * 64 * 64)
        + eighth * (64 * 64 + 64 * 128 + 128 * 128 + 2 * 128 * 128)
    )
    pointwise = half * 32 * 64 + eighth * (64 * 128 + 128 * 18)
    assert work.flop == 2 * (cubic + pointwise)
    # Twice the clip moves twice the maps, and the weights once.
    assert work.bytes(2) - work.bytes(1) == work.map_bytes > work.weight_bytes
