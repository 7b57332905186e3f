"""Clips: right against a slow reference, the same on every machine, and streamed."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from runtime.clips.trajectories.reference_renderer import render_slowly

from magvit_runtime.clips.trajectories import RenderStyle, Trajectory, render, render_batches
from magvit_runtime.errors import InputError

SMALL = RenderStyle(height=24, width=30, margin=4, frames=4)


def trajectory(points: object, t: object = None) -> Trajectory:
    xy = np.array(points, dtype=np.float64)
    times = np.arange(len(xy)) if t is None else t
    return Trajectory("a", xy, np.array(times, dtype=np.float64))


def wander(seed: int, points: int = 45) -> Trajectory:
    rng = np.random.default_rng(seed)
    return trajectory(rng.normal(size=(points, 2)).cumsum(axis=0), rng.random(points).cumsum())


def zigzag(number: int) -> Trajectory:
    """Made of integers and quarters alone, so that every machine makes the same."""
    k = np.arange(45)
    xy = np.stack([k * (k + number) % 31, 13 * k % (17 + number)], axis=1)
    return trajectory(xy, k + (k % 3) * 0.25)


coordinate = st.floats(-10, 10).map(lambda value: round(value, 3))


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    st.lists(st.tuples(coordinate, coordinate), min_size=2, max_size=7),
    st.sampled_from(
        [
            SMALL,
            RenderStyle(height=31, width=22, margin=5, frames=3, trail_width=4.3, background=9),
            RenderStyle(height=24, width=24, margin=6, frames=1, head_radius=0.7, trail_width=0.4),
            RenderStyle(height=22, width=40, margin=4, frames=6, y_axis="up", trail_level=255),
        ]
    ),
    st.randoms(use_true_random=False),
)
def test_clips_agree_with_the_slow_reference(
    points: object, style: RenderStyle, random: Random
) -> None:
    t = np.cumsum([0.1 + random.random() for _ in points])
    item = trajectory(points, t)
    fast = render([item], style)[0].astype(int)
    # A level of difference may come from another order of rounding.
    assert np.abs(fast - render_slowly(item, style)).max() <= 1


def test_the_bytes_are_the_same_on_every_machine() -> None:
    styles = [
        RenderStyle(),
        RenderStyle(height=90, width=160, frames=5, trail_width=3.7, head_radius=4.25, margin=9),
        RenderStyle(height=64, width=64, frames=1, background=40, y_axis="up"),
    ]
    digests = [
        hashlib.sha256(render([zigzag(number) for number in range(20)], style)).hexdigest()[:16]
        for style in styles
    ]
    assert digests == ["def3940be89a9d23", "b529f98c20064910", "d250c2b8ace60b30"]


def test_the_first_frame_is_only_the_head_and_the_last_ends_at_the_last_point() -> None:
    clip = render([trajectory([[0, 0], [1, 0]])], RenderStyle())[0, ..., 0]
    rows, columns = np.nonzero(clip[0])
    assert clip[0, 64, 12] == 255
    assert columns.max() <= 16
    assert rows.max() - rows.min() <= 7
    assert clip[-1, 64, 115] == 255
    assert clip[-1, 64, 64] == 110
    assert clip[8, 64, 63] == 255
    assert clip[8, 64, 90] == 0


def test_undrawn_pixels_are_the_background_and_drawn_ones_gray() -> None:
    style = RenderStyle(background=37)
    clips = render([wander(seed) for seed in range(5)], style)
    assert clips.dtype == np.uint8
    assert clips.shape == (5, 17, 128, 128, 3)
    assert (clips == clips[..., :1]).all()
    assert clips.min() == 37
    assert (clips[:, :, :8] == 37).all()
    assert (clips == 37).mean() > 0.8


def test_the_trail_only_grows() -> None:
    # A head as dim as the trail and no wider leaves the trail alone in the picture.
    style = RenderStyle(head_radius=1.25, head_level=110)
    clip = render([wander(3)], style)[0]
    assert (clip[1:] >= clip[:-1]).all()
    assert (clip[-1] > clip[0]).any()


def test_a_point_that_never_moves_is_a_dot_at_the_centre() -> None:
    clip = render([trajectory([[5, 5]] * 9)], RenderStyle(height=65, width=65))[0]
    assert (clip == clip[0]).all()
    rows, columns = np.nonzero(clip[0, ..., 0])
    assert rows.min() + rows.max() == 64
    assert columns.min() + columns.max() == 64


def test_a_clip_does_not_depend_on_its_neighbours() -> None:
    items = [wander(seed, points=2 + seed) for seed in range(40)]
    together = render(items, SMALL)
    for item, clip in zip(items, together, strict=True):
        np.testing.assert_array_equal(render([item], SMALL)[0], clip)


def test_ten_thousand_points_render_as_their_outline() -> None:
    few = trajectory([[0, 0], [4, 0], [4, 3]], [0, 4, 7])
    walk = np.union1d(np.linspace(0, 7, 9_999), 4.0)
    many = trajectory(np.stack([walk.clip(0, 4), walk.clip(4, 7) - 4], axis=1), walk)
    difference = render([few], RenderStyle())[0].astype(int) - render([many], RenderStyle())[0]
    # Each point is put on a grid of 1/256 pixel.
    assert np.abs(difference).max() <= 3


def test_no_trajectories_give_no_clips() -> None:
    assert render([], SMALL).shape == (0, 4, 24, 30, 3)


def test_batches_stream_and_equal_one_rendering() -> None:
    items = [wander(seed) for seed in range(7)]
    taken = []

    def source() -> Iterator[Trajectory]:
        for item in items:
            taken.append(item)
            yield item

    batches = render_batches(source(), SMALL, batch_size=3)
    first, clips = next(batches)
    assert first == taken == items[:3]
    rest = list(batches)
    assert [len(batch) for batch, _ in rest] == [3, 1]
    joined = np.concatenate([clips, *(part for _, part in rest)])
    np.testing.assert_array_equal(joined, render(items, SMALL))


def test_a_batch_size_below_one_is_refused() -> None:
    with pytest.raises(InputError, match="batch_size is too small: found 0"):
        next(render_batches([], SMALL, batch_size=0))
