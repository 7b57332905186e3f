"""Times keep their distances, in whatever form they come."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from magvit_runtime.clips.trajectories import ReadReport, read_trajectories


def csv_text(times: list[str]) -> str:
    return "id,t,x,y\n" + "".join(f'a,"{time}",{k},{k}\n' for k, time in enumerate(times))


def times_of(path: Path) -> list[float]:
    report = ReadReport()
    (trajectory,) = read_trajectories(path, report)
    assert not report.problems
    return trajectory.t.tolist()


@pytest.mark.parametrize(
    ("times", "read"),
    [
        (["0.1", "0.25", "7"], [0.1, 0.25, 7]),
        (["1700000000.5", "1700000000.75"], [1700000000.5, 1700000000.75]),
        (["1700000000000", "1700000000001"], [1700000000000, 1700000000001]),
        # Finer than a float64: counted from the trajectory's first.
        (["1700000000000000001", "1700000000000000004"], [0, 3]),
        (["-9007199254740993", "-9007199254740992"], [0, 1]),
        (["9007199254740991", "9007199254740993"], [0, 2]),
        (["2026-01-31", "2026-02-01"], [0, 86400]),
        (["2026-01-31 12:00", "2026-01-31T12:00:00.5"], [0, 0.5]),
        (["2026-01-31T12:00:00Z", "2026-01-31T14:00:01+02:00"], [0, 1]),
        (["2026-01-31T12:00:00-0330", "2026-01-31 15:30:02 UTC"], [0, 2]),
        (["20260131T120000Z", "20260131T120003+00"], [0, 3]),
        (["2026-01-31T12:00:00.000000001", "2026-01-31T12:00:00.000000004"], [0, 3e-9]),
        (["2026-01-31T12:00:00,1Z", "2026-01-31T12:00:00,25Z"], [0, 0.15]),
        (["1969-12-31T23:59:59.9Z", "1970-01-01T00:00:00Z"], [0, 0.1]),
    ],
)
def test_texts(write_csv: Callable[[str], Path], times: list[str], read: list[float]) -> None:
    assert times_of(write_csv(csv_text(times))) == read


def test_decimals_finer_than_a_float64(write_csv: Callable[[str], Path]) -> None:
    times = times_of(write_csv(csv_text(["1700000000.123456789", "1700000000.123456799"])))
    assert times == pytest.approx([0, 1e-8], rel=1e-6)


@pytest.mark.parametrize(
    "times",
    [
        np.array([5, 8, 12]) + 1_700_000_000_000_000_000,
        np.array(["2026-01-31T12:00:05", "2026-01-31T12:00:08", "2026-01-31T12:00:12"], "M8[ns]"),
        np.array(["2026-01-31T12:00:05", "2026-01-31T12:00:08", "2026-01-31T12:00:12"], "M8[s]"),
        np.array([5, 8, 12], np.uint8) + np.uint8(0),
        np.array([5_000, 8_000, 12_000], "m8[ms]"),
        np.array(["5", "8", "12"]),
        np.array([b"5", b"8", b"12"]),
        np.array([5, 8, "12"], object),
    ],
    ids=lambda array: str(array.dtype),
)
def test_arrays(tmp_path: Path, times: Any) -> None:
    path = tmp_path / "gestures.npz"
    np.savez(path, id=np.zeros(3), x=np.arange(3), y=np.arange(3), t=times)
    assert np.diff(times_of(path)).tolist() == [3, 4]


@pytest.mark.parametrize(
    ("times", "row", "words"),
    [
        (["2026-01-31", "2026-02-01", "7"], 4, "t is '7', expected a time without a zone"),
        (["2026-01-31Z", "2", "3"], 2, "t is '2026-01-31Z', expected a number"),
        (["1", "2", "2026-01-31"], 4, "t is '2026-01-31', expected a number"),
        (["2026-01-31T00Z", "2026-02-01T00Z", "2026-02-03"], 4, "expected a time with a zone"),
        (["2026-01-31", "2026-02-01", "2026-02-30"], 4, "t is '2026-02-30', expected a time"),
        (["2026-01-31", "2026-02-01", "2400-01-01"], 4, "t is '2400-01-01', expected a time"),
        (["?", "2026-01-31", "2026-02-01"], 2, "t is '?', expected a time without a zone"),
    ],
)
def test_times_of_two_kinds_are_not_mixed(
    write_csv: Callable[[str], Path], times: list[str], row: int, words: str
) -> None:
    report = ReadReport()
    (trajectory,) = read_trajectories(write_csv(csv_text(times)), report)
    (found,) = report.problems
    assert (found.row, len(trajectory.t)) == (row, 2)
    assert words in found.message


def test_a_date_out_of_reach_costs_its_row(tmp_path: Path) -> None:
    path = tmp_path / "gestures.npz"
    times = np.array(["2026-01-01", "NaT", "9999-01-01", "2026-01-02"], "M8[D]")
    np.savez(path, id=np.zeros(4), x=np.arange(4), y=np.arange(4), t=times)
    report = ReadReport()
    (trajectory,) = read_trajectories(path, report)
    assert trajectory.t.tolist() == [0, 86400]
    assert [(found.row, found.problem) for found in report.problems] == [
        (2, "not_finite"),
        (3, "not_finite"),
    ]
