"""Frames show the path by time, not by sample."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from magvit_runtime.clips.trajectories.resampling import cut_at_frames


def test_the_head_moves_with_time() -> None:
    points = np.array([[0, 0], [100, 0], [100, 900]])
    path = cut_at_frames(points, np.array([10.0, 11, 14]), frames=5)
    assert path.heads.tolist() == [[0, 0], [100, 0], [100, 300], [100, 600], [100, 900]]


def test_pieces_are_cut_where_a_frame_ends() -> None:
    path = cut_at_frames(np.array([[0, 0], [100, 0]]), np.array([0.0, 1]), frames=3)
    seen = {
        frame: {
            tuple(path.points[piece + end])
            for piece in np.flatnonzero(path.first_frame == frame)
            for end in (0, 1)
        }
        for frame in (1, 2)
    }
    assert seen == {1: {(0, 0), (50, 0)}, 2: {(50, 0), (100, 0)}}


def test_one_frame_shows_the_whole_path() -> None:
    points = np.array([[0, 0], [10, 0], [10, 10]])
    path = cut_at_frames(points, np.array([0.0, 1, 5]), frames=1)
    assert path.heads.tolist() == [[10, 10]]
    assert set(path.first_frame) == {0}


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
    path = cut_at_frames(points, t, frames)
    # x grows with time here, so heads and pieces must run forward, all the way.
    assert (np.diff(path.heads[:, 0]) >= 0).all()
    assert (np.diff(path.points[:, 0]) >= 0).all()
    assert (np.diff(path.first_frame) >= 0).all()
    assert path.heads[-1].tolist() == points[-1].tolist()
    if frames > 1:
        # Times that share of the duration rounds to zero may already be past at frame 0.
        assert path.heads[0, 0] == points[(t - t[0]) / (t[-1] - t[0]) == 0][-1, 0]
