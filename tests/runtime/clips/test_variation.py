"""Varied copies of trajectories, as classifiers are trained on and asked about."""

from __future__ import annotations

import numpy as np
import pytest

from magvit_runtime.clips.trajectories import Trajectory
from magvit_runtime.clips.variation import own_rows, with_variations

T = np.linspace(0, 2, 20)


def movement(name: str) -> Trajectory:
    return Trajectory(name, np.stack([np.cos(T), T**2], axis=1), T, "a")


def test_copies_come_after_their_trajectory_and_are_like_it() -> None:
    found = list(with_variations([movement("x"), movement("y")], 2))
    assert [item.id for item in found] == ["x", "x~1", "x~2", "y", "y~1", "y~2"]
    own, *copies = found[:3]
    assert own == movement("x") or np.array_equal(own.xy, movement("x").xy)
    for item in copies:
        assert item.label == "a"
        assert (item.t[0], item.t[-1]) == pytest.approx((T[0], T[-1]))
        assert (np.diff(item.t) > 0).all()
        assert not np.array_equal(item.xy, own.xy)
        # A movement of about the same form: turned, scaled and sheared by some hundredths.
        shapes = [
            np.corrcoef(axis, other)[0, 1] for axis, other in zip(item.xy.T, own.xy.T, strict=True)
        ]
        assert min(shapes) > 0.8
    assert not np.array_equal(copies[0].xy, copies[1].xy)


def test_copies_depend_on_the_id_alone() -> None:
    """So a job that gets half of the trajectories varies them as a job that gets all."""
    whole = list(with_variations([movement("x"), movement("y")], 1))
    half = list(with_variations([movement("y")], 1))
    np.testing.assert_array_equal(whole[3].xy, half[1].xy)
    assert not np.array_equal(whole[1].xy, whole[3].xy)


@pytest.mark.parametrize("size", [1, 2, 3, 5, 12])
def test_which_clips_are_trajectories_own(size: int) -> None:
    # Two views; two copies of each trajectory: o o c c c c, twice.
    expected = [0, 1, 6, 7]
    found = [
        first + row
        for first in range(0, 12, size)
        for row in own_rows(first, min(size, 12 - first), 2, 2)
    ]
    assert found == expected
    assert own_rows(3, 4, 1, 0).tolist() == [0, 1, 2, 3]
