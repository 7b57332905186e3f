"""Decimal points and decimal commas, as files have them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from magvit_runtime.clips.trajectories import ReadReport, read_trajectories
from magvit_runtime.errors import TrajectoryError


def read(path: Path) -> tuple[list[list[float]], list[tuple[int, str]]]:
    report = ReadReport()
    (trajectory,) = read_trajectories(path, report)
    return trajectory.xy.tolist(), [(found.row, found.message) for found in report.problems]


@pytest.mark.parametrize(
    ("rows", "xy"),
    [
        (["0,5;1,5", "1,5;2,5"], [[0.5, 1.5], [1.5, 2.5]]),
        (["-,5;+1,5e1", "1e-1;7"], [[-0.5, 15], [0.1, 7]]),
        # One number that is certain tells of 1,500 that it is no 1500.
        (["1,500;2", "0,250;3"], [[1.5, 2], [0.25, 3]]),
        (["1,500;2,5", "1,250;3"], [[1.5, 2.5], [1.25, 3]]),
        (["1;2", "3;4"], [[1, 2], [3, 4]]),
        ([" 1.5 ;2", "3;4"], [[1.5, 2], [3, 4]]),
    ],
)
def test_decimal_marks(
    write_csv: Callable[[str], Path], rows: list[str], xy: list[list[float]]
) -> None:
    text = "id;x;y\n" + "".join(f"a;{row}\n" for row in rows)
    assert read(write_csv(text)) == (xy, [])


def test_the_mark_may_first_show_far_down(write_csv: Callable[[str], Path]) -> None:
    rows = "".join(f"a;{k};{k}\n" for k in range(40_000))
    xy, problems = read(write_csv(f"id;x;y\n{rows}a;0,5;1,5\n"))
    assert (xy[-1], len(xy), problems) == ([0.5, 1.5], 40_001, [])


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ("7,5;1.5", "x is '7,5', expected a decimal point, as other numbers of the file have"),
        ("1,500;1.5", "x is '1,500', expected a decimal point"),
        ("1.234,5;1.5", "x is '1.234,5', expected a number"),
        ("1,2,3;1.5", "x is '1,2,3', expected a number"),
    ],
)
def test_a_number_with_the_other_mark_costs_its_row(
    write_csv: Callable[[str], Path], row: str, words: str
) -> None:
    _, problems = read(write_csv(f"id;x;y\na;0.5;0\na;1;1\na;{row}\n"))
    ((line, message),) = problems
    assert line == 4
    assert message.startswith(words)


def test_a_point_among_commas_costs_its_row(write_csv: Callable[[str], Path]) -> None:
    rows = "".join(f"a;{k},5;0,5\n" for k in range(20_000))
    _, problems = read(write_csv(f"id;x;y\n{rows}a;1.500;1\n"))
    assert problems == [
        (20_002, "x is '1.500', expected a decimal comma, as other numbers of the file have")
    ]


def test_what_may_be_thousands_is_never_guessed(write_csv: Callable[[str], Path]) -> None:
    path = write_csv("id;x;y\na;1,500;2\na;-12,250;3\n")
    with pytest.raises(TrajectoryError) as caught:
        read(path)
    assert "row 2: x is '1,500', which may be 1.500 or 1500" in str(caught.value)
