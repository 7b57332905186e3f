"""Trajectories keep their promises, and reports stay small."""

from __future__ import annotations

import numpy as np
import pytest

from magvit_runtime.clips.trajectories import ReadReport, RowProblem, Trajectory
from magvit_runtime.errors import TrajectoryError


@pytest.mark.parametrize(
    ("xy", "t", "words"),
    [
        (np.zeros((1, 2)), np.zeros(1), "wrong shape"),
        (np.zeros((3, 2)), np.arange(2.0), "wrong shape"),
        (np.zeros((2, 3)), np.arange(2.0), "wrong shape"),
        (np.zeros((2, 2), np.float32), np.arange(2.0), r"\.astype\(np\.float64\)"),
        (np.full((2, 2), np.nan), np.arange(2.0), "not finite"),
        (np.zeros((2, 2)), np.array([0, np.inf]), "not finite"),
        (np.full((2, 2), 1e301), np.arange(2.0), "beyond"),
        (np.zeros((2, 2)), np.zeros(2), "don't increase"),
        (np.zeros((2, 2)), np.array([1.0, 0]), "don't increase"),
    ],
)
def test_an_impossible_trajectory_is_refused(xy: np.ndarray, t: np.ndarray, words: str) -> None:
    with pytest.raises(TrajectoryError, match=rf"trajectory 'a'.*{words}|{words}"):
        Trajectory("a", xy, t)


def test_a_report_keeps_the_first_problems_and_counts_all() -> None:
    report = ReadReport()
    for row in range(5000):
        report.add(RowProblem(row, None, "missing_id", "its id is empty", "dropped"))
    assert [found.row for found in report.problems] == list(range(1000))
    assert report.summary() == "0 trajectories read; 5000 dropped (missing_id)"
