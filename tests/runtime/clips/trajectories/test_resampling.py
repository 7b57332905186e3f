"""Frames show the path by time, not by sample."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from magvit_runtime.clips.trajectories.resampling import cut_at_frames


def test_the_head_moves_with_time() -> None:
    points = np.array([[0, 0], [100, 0], [100, 900]])
    cuts = cut_at_frames(np.array([10.0, 11, 14]), frames=5)
    heads = [[0, 0], [100, 0], [100, 300], [100, 600], [100, 900]]
    assert cuts.heads(points).tolist() == heads
    np.testing.assert_allclose(cuts.heads(points / 7), np.array(heads) / 7)


def test_between_integers_heads_are_rounded_and_between_fractions_not() -> None:
    cuts = cut_at_frames(np.array([0.0, 1]), frames=4)
    assert cuts.heads(np.array([0, 1])).tolist() == [0, 0, 1, 1]
    assert cuts.heads(np.array([0.0, 1.5])).tolist() == [0, 0.5, 1, 1.5]


def test_pieces_are_cut_where_a_frame_ends() -> None:
    cuts = cut_at_frames(np.array([0.0, 1]), frames=3)
    points = np.array([[0, 0], [100, 0]])
    starts, ends = cuts.pieces(points, cuts.heads(points))
    seen = {
        frame: {
            tuple(side[piece])
            for piece in np.flatnonzero(cuts.first_frame == frame)
            for side in (starts, ends)
        }
        for frame in (1, 2)
    }
    assert seen == {1: {(0, 0), (50, 0)}, 2: {(50, 0), (100, 0)}}


def test_one_frame_shows_the_whole_path() -> None:
    points = np.array([[0, 0], [10, 0], [10, 10]])
    cuts = cut_at_frames(np.array([0.0, 1, 5]), frames=1)
    assert cuts.heads(points).tolist() == [[10, 10]]
    assert set(cuts.first_frame) == {0}


@settings(max_examples=300, deadline=None, derandomize=True)
@given(
    st.lists(st.floats(-1e300, 1e300), min_size=2, max_size=8, unique=True),
    st.integers(1, 20),
)
def test_any_times_give_an_ordered_path_from_first_to_last_point(
    times: list[float], frames: int
) -> None:
    t = np.array(sorted(times))
    points = np.stack([np.arange(len(t)) * 1000, np.zeros(len(t), np.int64)], axis=1)
    cuts = cut_at_frames(t, frames)
    heads = cuts.heads(points)
    starts, ends = cuts.pieces(points, heads)
    # x grows with time here, so heads and pieces must run forward, all the way.
    assert (np.diff(heads[:, 0]) >= 0).all()
    assert (ends[:, 0] >= starts[:, 0]).all()
    assert (starts[1:] == ends[:-1]).all()
    assert (np.diff(cuts.first_frame) >= 0).all()
    assert heads[-1].tolist() == points[-1].tolist()
    if frames > 1:
        # Times that share of the duration rounds to zero may already be past at frame 0.
        assert heads[0, 0] == points[(t - t[0]) / (t[-1] - t[0]) == 0][-1, 0]
