"""The rules for bad rows: what is dropped, what is repaired and what is refused.

| what is wrong                                | problem         | what happens                   |
|----------------------------------------------|-----------------|--------------------------------|
| line too long, badly quoted or no JSON       | bad_line        | row dropped                    |
| line with too few or too many fields         | field_count     | row dropped                    |
| the header comes again                       | repeated_header | row dropped                    |
| id empty or missing                          | missing_id      | row dropped                    |
| a coordinate or t is no number, or missing   | not_a_number    | row dropped                    |
| one of them is NaN, infinite, beyond ±1e300  | not_finite      | row dropped                    |
| two rows with one time                       | repeated_time   | the later row of the file wins |
| rows not in the order of their times         | unsorted_time   | repaired: sorted by time       |
| bytes that are no UTF-8                      | encoding        | repaired: read as Windows-1252 |
| w or h of a box is negative                  | bad_box         | row dropped                    |
| points of more numbers than x, y and z       | further_axes    | repaired: x and y are used     |
| rows before and after a header, no times     | joined_parts    | trajectory refused             |
| rows of one id with different labels         | mixed_labels    | trajectory refused             |
| fewer than two usable rows left              | too_few_points  | trajectory refused             |
| coordinates and t of different lengths       | mixed_lengths   | trajectory refused             |
| a whole trajectory with an id met before     | repeated_id     | the later one refused          |

The last two concern files of whole trajectories: `xy` of npz, and JSON. In files of one row a
point, the rows of an id are gathered, wherever they are.

Without a t column, time is the place among the id's rows; a dropped row leaves its gap. Points
that are all in one place are no fault: they are rendered as a dot. Whatever is wrong with one
trajectory never costs another.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from magvit_runtime.clips.trajectories.points import Points
from magvit_runtime.clips.trajectories.records import ReadReport, RowProblem, Trajectory
from magvit_runtime.clips.trajectories.times import Times


def repair_all(
    trajectories: Iterable[Points], report: ReadReport, breaks: Sequence[int] = ()
) -> Iterator[Trajectory]:
    """Yields the usable trajectories.

    Args:
        trajectories: The points of one id each.
        report: Collects what was wrong.
        breaks: Rows at which a header came again, so that what follows may be another file; it
            may grow until the last of the file's rows was read.
    """
    for points in trajectories:
        trajectory = _repair(points, report, breaks)
        if trajectory is not None:
            report.trajectories += 1
            report.kinds[trajectory.kind] += 1
            yield trajectory


def _repair(points: Points, report: ReadReport, breaks: Sequence[int]) -> Trajectory | None:
    """Applies the rules to the points of one id."""
    name = points.ids[0]
    first_row, last_row = int(points.rows[0]), int(points.rows[-1])

    def refuse(problem: str, message: str) -> None:
        report.add(RowProblem(first_row, name, problem, message, "refused"))

    usable = np.isfinite(points.places[:, 0])
    labels = _labels(points, usable)
    if len(labels) > 1:
        found = ", ".join(sorted(map(repr, labels))[:5])
        refuse("mixed_labels", f"its rows have different labels: {found}")
        return None
    if points.times is None and any(first_row < row < last_row for row in breaks):
        message = "it has rows before and after a second header, and no times that order them"
        refuse("joined_parts", message)
        return None

    t = _times(points.times, usable)
    rows, places = points.rows[usable], points.places[usable]
    if (t[1:] < t[:-1]).any():
        message = "its rows are not in the order of their times; they were sorted"
        report.add(RowProblem(first_row, name, "unsorted_time", message, "repaired"))
        # A stable sort: of points with one time, the last of the file stays the last.
        order = np.argsort(t, kind="stable")
        t, rows, places = t[order], rows[order], places[order]

    last_of_time = np.append(t[1:] > t[:-1], True)[: len(t)]
    if not last_of_time.all():
        for place in np.flatnonzero(~last_of_time).tolist():
            message = f"a later row has the same time, {t[place]:g}"
            report.add(RowProblem(int(rows[place]), name, "repeated_time", message, "dropped"))
        t, places = t[last_of_time], places[last_of_time]
    if len(t) < 2:
        message = f"{len(t)} of its {len(usable)} rows can be used, and it needs 2 or more"
        refuse("too_few_points", message)
        return None

    label = next(iter(labels), "") or None
    xy, numbers = np.ascontiguousarray(places[:, :2]), places.shape[1]
    z = places[:, 2].copy() if numbers == 3 else None
    size = places[:, 2:].copy() if numbers == 4 else None
    return Trajectory(name, xy, t, label, first_row, z, size)


def _labels(points: Points, usable: NDArray[np.bool_]) -> set[str]:
    """Finds the labels of the usable points."""
    if points.labels is None:
        return set()
    labels = set(points.labels)
    if len(labels) < 2 or usable.all():
        return labels
    return {label for label, used in zip(points.labels, usable, strict=True) if used}


def _times(times: Times | None, usable: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Gives the times of the usable points, from the first where a float64 can't hold them."""
    if times is None:
        return np.flatnonzero(usable).astype(np.float64)
    whole, part = times.whole[usable], times.part[usable]
    if times.ticks == 1 and not whole.any():
        return part
    # Times below 2^53 beside some that are beyond it have all in their part.
    short = np.trunc(np.where(np.abs(part) < 2**62, part, 0))
    whole, part = whole + short.astype(np.int64), part - short
    # Any time of the trajectory will do, if only it is near the others.
    base = whole[np.argmax(whole != 0)] if len(whole) else np.int64(0)
    t = ((whole - base) + part) / times.ticks
    return np.asarray(t - t.min() if len(t) else t, dtype=np.float64)
