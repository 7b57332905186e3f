"""Each rule of the table in `repair`, as a user meets it in a CSV."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from magvit_runtime.clips.trajectories import ReadReport, Trajectory, read_trajectories
from magvit_runtime.clips.trajectories.columns import RawBlock, Table
from magvit_runtime.clips.trajectories.gathering import gather
from magvit_runtime.clips.trajectories.repair import repair_all
from magvit_runtime.errors import TrajectoryError


def read(path: Path) -> tuple[list[Trajectory], ReadReport]:
    report = ReadReport()
    return list(read_trajectories(path, report)), report


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        ("", "not_a_number"),
        ("seven", "not_a_number"),
        ("1_000", "not_a_number"),
        ("1,5", "field_count"),
        ("nan", "not_finite"),
        ("-inf", "not_finite"),
        ("1e400", "not_finite"),
        ("1e301", "not_finite"),
    ],
)
@pytest.mark.parametrize("column", ["x", "y", "t"])
def test_bad_numbers_drop_their_row(
    write_csv: Callable[[str], Path], value: str, problem: str, column: str
) -> None:
    bad = ",".join({"id": "a", "x": "5", "y": "5", "t": "1", column: value}.values())
    (trajectory,), report = read(write_csv(f"id,x,y,t\na,0,0,0\n{bad}\na,2,2,2\n"))
    assert trajectory.t.tolist() == [0, 2]
    (found,) = report.problems
    assert (found.row, found.problem, found.action) == (3, problem, "dropped")
    assert report.summary() == f"1 trajectories read; 1 dropped ({problem})"


def test_a_bad_number_is_named(write_csv: Callable[[str], Path]) -> None:
    _, report = read(write_csv("id,x,y\na,0,0\na,seven,1\na,2,2\n"))
    assert report.problems[0].trajectory == "a"
    assert report.problems[0].message == "x is 'seven', expected a number"


def test_a_dropped_row_leaves_its_gap_in_the_sample_index(write_csv: Callable[[str], Path]) -> None:
    (trajectory,), _ = read(write_csv("id,x,y\na,0,0\na,-,1\na,2,2\na,3,3\n"))
    assert trajectory.t.tolist() == [0, 2, 3]


def test_unsorted_times_are_sorted(write_csv: Callable[[str], Path]) -> None:
    (trajectory,), report = read(write_csv("id,x,y,t\na,2,2,2\na,0,0,0\na,1,1,1\n"))
    assert trajectory.t.tolist() == [0, 1, 2]
    assert trajectory.xy[:, 0].tolist() == [0, 1, 2]
    assert trajectory.first_row == 2
    (found,) = report.problems
    assert (found.row, found.problem, found.action) == (2, "unsorted_time", "repaired")


def test_of_a_repeated_time_the_last_row_wins(write_csv: Callable[[str], Path]) -> None:
    (trajectory,), report = read(write_csv("id,x,y,t\na,1,0,1\na,0,0,0\na,2,0,1\na,3,0,1\n"))
    assert trajectory.xy[:, 0].tolist() == [0, 3]
    dropped = [found.row for found in report.problems if found.problem == "repeated_time"]
    assert dropped == [2, 4]


@pytest.mark.parametrize(
    ("rows", "problem", "words"),
    [
        ("b,0,0,0,u\n", "too_few_points", "1 of its 1 rows can be used"),
        ("b,-,0,0,u\nb,-,0,1,u\n", "too_few_points", "0 of its 2 rows can be used"),
        ("b,0,0,7,u\nb,1,1,7,u\n", "too_few_points", "1 of its 2 rows can be used"),
        ("b,0,0,0,u\nb,1,1,1,v\n", "mixed_labels", "different labels: 'u', 'v'"),
        ("b,0,0,0,u\nb,1,1,1,\n", "mixed_labels", "different labels: '', 'u'"),
    ],
)
def test_a_refused_trajectory_costs_no_other(
    write_csv: Callable[[str], Path], rows: str, problem: str, words: str
) -> None:
    before, after = "a,0,0,0,u\na,1,1,1,u\nm,0,0,0,u\nm,1,1,1,u\n", "z,0,0,0,u\nz,1,1,1,u\n"
    trajectories, report = read(write_csv(f"id,x,y,t,label\n{before}{rows}{after}"))
    assert [trajectory.id for trajectory in trajectories] == ["a", "m", "z"]
    refused = [found for found in report.problems if found.action == "refused"]
    assert [(found.row, found.problem) for found in refused] == [(6, problem)]
    assert words in refused[0].message


def test_points_all_in_one_place_are_no_fault(write_csv: Callable[[str], Path]) -> None:
    (_,), report = read(write_csv("id,x,y\na,5,5\na,5,5\n"))
    assert not report.problems


def test_a_file_of_which_nothing_is_left_is_refused(write_csv: Callable[[str], Path]) -> None:
    with pytest.raises(TrajectoryError, match=r"found 0 trajectories read; 2 refused \(too_few"):
        read(write_csv("id,x,y\na,5,5\nb,5,5\n"))


anything = st.one_of(st.floats(), st.integers(), st.sampled_from(["", "x", "1", "2", "nan"]))


@settings(max_examples=300, deadline=None, derandomize=True)
@given(
    st.lists(st.tuples(st.sampled_from(["", "a", "b"]), anything, anything, anything), max_size=12),
    st.booleans(),
)
def test_whatever_the_rows_each_is_used_or_reported(
    rows: list[tuple[str, object, object, object]], has_time: bool
) -> None:
    report = ReadReport()
    names = ("id", "x", "y", "t") if has_time else ("id", "x", "y")
    columns = {name: [row[place] for row in rows] for place, name in enumerate(names)}
    block = RawBlock(np.arange(len(rows)), columns)
    table = Table(Path(), ids=lambda: iter([columns["id"]]), blocks=lambda _: iter([block]))
    trajectories = list(repair_all(gather(table, report), report))
    assert report.trajectories == len(trajectories)
    assert len({trajectory.id for trajectory in trajectories}) == len(trajectories)
    used = sum(len(trajectory.t) for trajectory in trajectories)
    dropped = sum(found.action == "dropped" for found in report.problems)
    refused = any(found.action == "refused" for found in report.problems)
    assert used + dropped == len(rows) or (refused and used + dropped < len(rows))
    for trajectory in trajectories:
        assert np.isfinite(trajectory.xy).all()
        assert (np.diff(trajectory.t) > 0).all()
