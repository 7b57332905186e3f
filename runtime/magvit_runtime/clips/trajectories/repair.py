"""The rules for bad rows: what is dropped, what is repaired and what is refused.

| what is wrong                                | problem        | what happens                   |
|----------------------------------------------|----------------|--------------------------------|
| CSV line too long or badly quoted            | bad_line       | row dropped                    |
| CSV line with too few or too many fields     | field_count    | row dropped                    |
| id empty or missing                          | missing_id     | row dropped                    |
| x, y or t isn't a number                     | not_a_number   | row dropped                    |
| x, y or t is NaN, infinite or beyond ±1e300  | not_finite     | row dropped                    |
| two rows with one time                       | repeated_time  | the later row of the file wins |
| rows not in the order of their times         | unsorted_time  | repaired: sorted by time       |
| an id comes back after other ids             | repeated_id    | its later rows refused         |
| rows of one id with different labels         | mixed_labels   | trajectory refused             |
| fewer than two usable rows left              | too_few_points | trajectory refused             |

Without a t column, time is the place among the id's rows; a dropped row leaves its gap. Points
that are all in one place are no fault: they are rendered as a dot. Whatever is wrong with one
trajectory never costs another.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import groupby, pairwise
from operator import attrgetter
from typing import NamedTuple

import numpy as np

from magvit_runtime.clips.trajectories.records import (
    LARGEST_NUMBER,
    PointRow,
    ReadReport,
    RowProblem,
    Trajectory,
)


def group_by_id(
    rows: Iterable[PointRow], report: ReadReport
) -> Iterator[tuple[str, list[PointRow]]]:
    """Yields each id with its rows; rows without an id are reported and dropped."""
    for trajectory_id, group in groupby(_rows_with_id(rows, report), key=attrgetter("id")):
        yield trajectory_id, list(group)


def _rows_with_id(rows: Iterable[PointRow], report: ReadReport) -> Iterator[PointRow]:
    for row in rows:
        if row.id:
            yield row
        else:
            report.add(RowProblem(row.row, None, "missing_id", "its id is empty", "dropped"))


def repair_all(
    trajectories: Iterable[tuple[str, list[PointRow]]], report: ReadReport
) -> Iterator[Trajectory]:
    """Yields the usable trajectories.

    Args:
        trajectories: Id and rows of each trajectory, in file order.
        report: Collects what was wrong.
    """
    seen: set[str] = set()
    for trajectory_id, rows in trajectories:
        if trajectory_id in seen:
            message = "its id was met before: the rows of one id must follow each other"
            problem = RowProblem(rows[0].row, trajectory_id, "repeated_id", message, "refused")
            report.add(problem)
            continue
        seen.add(trajectory_id)
        trajectory = _repair(rows, report)
        if trajectory is not None:
            report.trajectories += 1
            yield trajectory


class _Point(NamedTuple):
    row: PointRow
    t: float
    x: float
    y: float


def _repair(rows: list[PointRow], report: ReadReport) -> Trajectory | None:
    """Applies the rules to the rows of one id."""
    first = rows[0]
    points = _numeric_points(rows, report)
    labels = {point.row.label for point in points}
    if len(labels) > 1:
        found = ", ".join(sorted(repr(label) for label in labels)[:5])
        message = f"its rows have different labels: {found}"
        report.add(RowProblem(first.row, first.id, "mixed_labels", message, "refused"))
        return None

    if any(later.t < earlier.t for earlier, later in pairwise(points)):
        message = "its rows are not in the order of their times; they were sorted"
        report.add(RowProblem(first.row, first.id, "unsorted_time", message, "repaired"))
        # A stable sort: of points with one time, the last of the file stays the last.
        points.sort(key=attrgetter("t"))

    last_of_time = {point.t: point for point in points}
    for point in points:
        if last_of_time[point.t] is not point:
            message = f"a later row has the same time, {point.t:g}"
            report.add(RowProblem(point.row.row, first.id, "repeated_time", message, "dropped"))
    kept = list(last_of_time.values())
    if len(kept) < 2:
        message = f"{len(kept)} of its {len(rows)} rows can be used, and it needs 2 or more"
        report.add(RowProblem(first.row, first.id, "too_few_points", message, "refused"))
        return None

    return Trajectory(
        id=first.id,
        xy=np.array([(point.x, point.y) for point in kept]),
        t=np.array([point.t for point in kept]),
        label=kept[0].row.label or None,
        first_row=first.row,
    )


def _numeric_points(rows: list[PointRow], report: ReadReport) -> list[_Point]:
    points = []
    for place, row in enumerate(rows):
        try:
            t = float(place) if row.t is None else _number("t", row.t)
            points.append(_Point(row, t, _number("x", row.x), _number("y", row.y)))
        except _BadNumberError as bad:
            report.add(RowProblem(row.row, row.id, bad.problem, bad.message, "dropped"))
    return points


class _BadNumberError(Exception):
    def __init__(self, problem: str, message: str) -> None:
        self.problem = problem
        self.message = message


def _number(column: str, value: object) -> float:
    text = str(value)
    try:
        # Python reads 1_0 as 10, which no other reader of data files does.
        if "_" in text:
            raise ValueError
        number = float(text)
    except ValueError:
        message = f"{column} is {text[:40]!r}, expected a number"
        raise _BadNumberError("not_a_number", message) from None
    # Written so that NaN fails too.
    if not abs(number) <= LARGEST_NUMBER:
        message = f"{column} is {text[:40]}, expected a finite number within ±{LARGEST_NUMBER:g}"
        raise _BadNumberError("not_finite", message)
    return number
