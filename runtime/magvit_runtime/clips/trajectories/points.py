"""Rows as a file has them to typed points; what can't be used is reported, row by row."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import numpy as np
from numpy.typing import NDArray

from magvit_runtime.clips.trajectories.columns import RawBlock, Values
from magvit_runtime.clips.trajectories.names import names_of
from magvit_runtime.clips.trajectories.numbers import BadValue, NumberReader
from magvit_runtime.clips.trajectories.positions import PARTS
from magvit_runtime.clips.trajectories.records import LARGEST_NUMBER, ReadReport, RowProblem
from magvit_runtime.clips.trajectories.times import TimeReader, Times


@dataclass(frozen=True, eq=False)
class Points:
    """Points of one or of several trajectories, in file order.

    Attributes:
        rows: int64 [points], as `RawBlock.rows`.
        ids: Id of each point.
        labels: Label of each point, empty where it is missing; None without such a column.
        places: float64 [points, 2, 3 or 4]: (x, y), (x, y, z), or of a box (centre x, centre y, w,
            h); the first is NaN where the row can't be used (and was reported).
        times: Of each point; None without such a column.
    """

    rows: NDArray[np.int64]
    ids: Sequence[str]
    labels: Sequence[str] | None
    places: NDArray[np.float64]
    times: Times | None

    def __getitem__(self, part: slice | NDArray[np.int64]) -> Points:
        """Gives some of the points."""
        kept = range(len(self.ids))[part] if isinstance(part, slice) else part.tolist()
        times = self.times and Times(
            self.times.whole[part], self.times.part[part], self.times.ticks
        )
        return Points(
            self.rows[part],
            [self.ids[place] for place in kept],
            self.labels and [self.labels[place] for place in kept],
            self.places[part],
            times,
        )


def join_points(pieces: Sequence[Points]) -> Points:
    """Puts points of one file together."""
    if len(pieces) == 1:
        return pieces[0]
    times = [piece.times for piece in pieces if piece.times is not None]
    labels = [piece.labels for piece in pieces if piece.labels is not None]
    return Points(
        np.concatenate([piece.rows for piece in pieces]),
        [name for piece in pieces for name in piece.ids],
        [label for piece in labels for label in piece] if labels else None,
        np.concatenate([piece.places for piece in pieces]),
        Times(
            np.concatenate([piece.whole for piece in times]),
            np.concatenate([piece.part for piece in times]),
            max(piece.ticks for piece in times),
        )
        if times
        else None,
    )


class PointReader:
    """Reads the blocks of one file.

    Args:
        report: Collects rows that can't be used.
    """

    def __init__(self, report: ReadReport) -> None:
        self._report = report
        self._numbers = NumberReader()
        self._times = TimeReader(self._numbers)

    def read(self, block: RawBlock) -> Points:
        """Reads one block; rows without an id are left out, other bad ones have x NaN."""
        columns = block.columns
        parts = [name for name in PARTS if name in columns]
        self._numbers.look(columns[name] for name in (*parts, "t") if name in columns)
        times, bad = self._times.read(columns["t"]) if "t" in columns else (None, [])
        numbers = {}
        for name in parts:
            numbers[name], wrong = self._numbers.read(name, columns[name])
            bad += wrong
        if "w" in numbers or "x2" in numbers:
            self._report.boxes_from = (
                "two corners" if "x2" in numbers else "middle" if "cx" in numbers else "top left"
            )
        places, wrong = _places(numbers)
        bad += wrong
        points = Points(
            block.rows,
            names_of(_listed(columns["id"])),
            names_of(_listed(columns["label"])) if "label" in columns else None,
            places,
            times,
        )
        nameless = [place for place, name in enumerate(points.ids) if not name]
        if bad or nameless:
            return self._without_bad(points, bad, nameless)
        return points

    def _without_bad(self, points: Points, bad: list[BadValue], nameless: list[int]) -> Points:
        # Of each row, the first thing that is wrong.
        problems = {item.place: item for item in reversed(bad)}
        for place in nameless:
            problems[place] = BadValue(place, "missing_id", "its id is empty")
        for place, (_, problem, message) in sorted(problems.items()):
            points.places[place, 0] = np.nan
            name = points.ids[place] or None
            row = int(points.rows[place])
            self._report.add(RowProblem(row, name, problem, message, "dropped"))
        if nameless:
            return points[np.delete(np.arange(len(points.ids)), nameless)]
        return points


def runs_of_one_id(blocks: Iterable[Points]) -> Iterator[Points]:
    """Puts neighbouring points of one id together, across blocks."""
    pieces: list[Points] = []
    for block in blocks:
        first = 0
        for name, run in groupby(block.ids):
            last = first + sum(1 for _ in run)
            if pieces and pieces[0].ids[0] != name:
                yield join_points(pieces)
                pieces = []
            pieces.append(block[first:last])
            first = last
    if pieces:
        yield join_points(pieces)


def _places(numbers: dict[str, NDArray[np.float64]]) -> tuple[NDArray[np.float64], list[BadValue]]:
    """Puts the numbers of one layout together, as `Points.places`, and finds bad boxes."""
    if "w" not in numbers and "x2" not in numbers:
        return np.stack([*numbers.values()], axis=1), []
    columns = []
    bad = []
    for axis, size in (("x", "w"), ("y", "h")):
        if "x2" in numbers:
            low, high = numbers[f"{axis}1"], numbers[f"{axis}2"]
            middle, length, name = low / 2 + high / 2, high - low, f"{axis}2 - {axis}1"
        elif "cx" in numbers:
            middle, length, name = numbers[f"c{axis}"], numbers[size], size
        else:
            middle, length, name = numbers[axis] + numbers[size] / 2, numbers[size], size
        columns.append((middle, length))
        wrong = (length < 0) | (length > LARGEST_NUMBER) | (np.abs(middle) > LARGEST_NUMBER)
        for place in np.flatnonzero(wrong).tolist():
            message = (
                f"{name} is {length[place]:g}, expected a size from 0 on, of a box within "
                f"±{LARGEST_NUMBER:g}"
            )
            bad.append(BadValue(place, "bad_box", message))
    (x, w), (y, h) = columns
    return np.stack([x, y, w, h], axis=1), bad


def _listed(values: Values) -> Sequence[Any]:
    return values.tolist() if isinstance(values, np.ndarray) else values
