"""Reads the rows of an npz file: columns as in CSV, or whole trajectories stacked in `xy`."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from magvit_runtime.clips.trajectories.columns import (
    OPTIONAL,
    REQUIRED,
    as_text,
    find_columns,
    point_row,
)
from magvit_runtime.clips.trajectories.records import PointRow, ReadReport, RowProblem
from magvit_runtime.clips.trajectories.repair import group_by_id
from magvit_runtime.errors import TrajectoryError

Arrays = dict[str, NDArray[Any]]


def npz_trajectories(path: Path, report: ReadReport) -> Iterator[tuple[str, list[PointRow]]]:
    """Yields id and rows of each trajectory of an npz file.

    The file holds either the one-dimensional arrays id, x, y and, where known, t and label, all
    of one length; or xy [trajectories, points, 2] and, where known, id [trajectories] (else the
    index in xy, from 0), t [trajectories, points] or [points], and label [trajectories].
    It is loaded whole, and never unpickled.

    Args:
        path: The file.
        report: Collects trajectories and rows without an id.

    Raises:
        TrajectoryError: The file is damaged, or an array is missing or has a wrong shape or type.
    """
    arrays = _load(path)
    if "xy" in arrays:
        yield from _stacked(path, arrays, report)
    else:
        yield from group_by_id(_column_rows(path, arrays), report)


def _load(path: Path) -> Arrays:
    try:
        # np.load would read other formats too, and give members that hold no array as bytes.
        with zipfile.ZipFile(path), np.load(path, allow_pickle=False) as file:
            names = [name for name in ("xy", *REQUIRED, *OPTIONAL) if name in file]
            arrays = {name: np.asarray(file[name]) for name in names}
    except ValueError as error:
        raise TrajectoryError(
            f"{path} holds an array that can't be read safely",
            mend="write it again with numpy.savez, as arrays of numbers or text, not of objects",
        ) from error
    except (zipfile.BadZipFile, zlib.error, OSError, EOFError, RuntimeError, MemoryError) as error:
        raise TrajectoryError(
            f"{path} can't be read as npz",
            found=error,
            mend="write or copy the file again: it is damaged, cut short or in another format",
        ) from error
    for name, array in arrays.items():
        if array.dtype.kind not in ("fiu" if name == "xy" else "fiuU"):
            raise TrajectoryError(
                f"{path}: the array {name} has a type that can't be used",
                found=array.dtype,
                expected="numbers" if name == "xy" else "numbers or text",
            )
    return arrays


def _check_shape(path: Path, name: str, array: NDArray[Any], *expected: tuple[int, ...]) -> None:
    if array.shape not in expected:
        raise TrajectoryError(
            f"{path}: the array {name} has the wrong shape",
            found=list(array.shape),
            expected=" or ".join(str(list(shape)) for shape in expected),
        )


def _column_rows(path: Path, arrays: Arrays) -> Iterator[PointRow]:
    names = list(find_columns(path, list(arrays)))
    for name in names:
        _check_shape(path, name, arrays[name], (arrays["id"].size,))
    for index in range(arrays["id"].size):
        yield point_row(index + 1, {name: arrays[name][index].item() for name in names})


def _stacked(
    path: Path, arrays: Arrays, report: ReadReport
) -> Iterator[tuple[str, list[PointRow]]]:
    xy = arrays["xy"]
    if xy.ndim != 3 or xy.shape[1] < 2 or xy.shape[2] != 2:
        raise TrajectoryError(
            f"{path}: the array xy has the wrong shape",
            found=list(xy.shape),
            expected="[trajectories, points ≥ 2, 2]",
        )
    count, points, _ = xy.shape
    for name in ("id", "label"):
        if name in arrays:
            _check_shape(path, name, arrays[name], (count,))
    if "t" in arrays:
        _check_shape(path, "t", arrays["t"], (count, points), (points,))
        times = np.broadcast_to(arrays["t"], (count, points))
    for index in range(count):
        row = index + 1
        name = as_text(arrays["id"][index].item()) if "id" in arrays else str(index)
        label = as_text(arrays["label"][index].item()) if "label" in arrays else None
        t = times[index].tolist() if "t" in arrays else [None] * points
        if name:
            points_of_one = zip(xy[index].tolist(), t, strict=True)
            yield name, [PointRow(row, name, x, y, time, label) for (x, y), time in points_of_one]
        else:
            report.add(RowProblem(row, None, "missing_id", "its id is empty", "refused"))
