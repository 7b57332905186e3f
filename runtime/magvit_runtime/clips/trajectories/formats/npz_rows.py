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
    RawBlock,
    Table,
    Values,
    find_columns,
    match_columns,
)
from magvit_runtime.clips.trajectories.formats.json_values import Value
from magvit_runtime.clips.trajectories.formats.object_arrays import read_objects
from magvit_runtime.clips.trajectories.formats.whole_values import whole_blocks
from magvit_runtime.clips.trajectories.gathering import gather
from magvit_runtime.clips.trajectories.points import Points
from magvit_runtime.clips.trajectories.records import ReadReport
from magvit_runtime.clips.trajectories.whole import whole_trajectories
from magvit_runtime.errors import TrajectoryError

Arrays = dict[str, NDArray[Any]]

CHUNK_ROWS = 1 << 14
# Kinds of NumPy's types that each array may have: numbers, text, bytes, objects, dates, booleans.
KINDS = {"xy": "fiuO", "x": "fiuUSO", "y": "fiuUSO", "t": "fiuUSOMm", "id": "fiuUSOb"}
KINDS["label"] = KINDS["id"]
# Levels of lists in arrays of objects: values of a trajectory, or its points and their coordinates.
LISTS = {"x": 1, "y": 1, "t": 1, "xy": 2}


def npz_points(path: Path, report: ReadReport) -> Iterator[Points]:
    """Yields the points of each trajectory of an npz file.

    The file holds either the one-dimensional arrays id, x, y and, where known, t and label, all
    of one length; or xy [trajectories, points, 2] and, where known, id [trajectories] (else the
    index in xy, from 0), t [trajectories, points] or [points], and label [trajectories]. Where
    trajectories differ in length, xy is an array of objects [trajectories], each [points, 2]; or x
    and y are, each [points].
    It is loaded whole. What NumPy has pickled, columns of objects, is read without running it.

    Args:
        path: The file.
        report: Collects trajectories and rows that can't be used.

    Raises:
        TrajectoryError: The file is damaged, or an array is missing or has a wrong shape or type.
    """
    arrays = _load(path)
    if _is_ragged(arrays):
        return whole_trajectories(whole_blocks(_ragged(path, arrays), report), report)
    if "xy" in arrays:
        return whole_trajectories(_stacked(path, arrays), report)
    return gather(_columns(path, arrays), report)


def _load(path: Path) -> Arrays:
    try:
        # np.load would read other formats too, and give members that hold no array as bytes.
        with zipfile.ZipFile(path) as members, np.load(path, allow_pickle=False) as file:
            if "xy" in file.files:
                names = match_columns(path, file.files) | {"xy": file.files.index("xy")}
                names = {column: names[column] for column in names if column not in ("x", "y")}
            else:
                names = find_columns(path, file.files)
            arrays = {}
            for column, place in names.items():
                name = file.files[place]
                try:
                    arrays[column] = np.asarray(file[name])
                except ValueError:  # Objects.
                    with members.open(f"{name}.npy") as member:
                        arrays[column] = read_objects(member, LISTS.get(column, 0))
    except ValueError as error:
        raise TrajectoryError(
            f"{path} holds an array that can't be read safely",
            mend="write it again with numpy.savez, as arrays of numbers or text, not of objects",
        ) from error
    except (
        zipfile.BadZipFile,
        zlib.error,
        OSError,
        EOFError,
        KeyError,
        RuntimeError,
        MemoryError,
    ) as error:
        raise TrajectoryError(
            f"{path} can't be read as npz",
            found=error,
            mend="write or copy the file again: it is damaged, cut short or in another format",
        ) from error
    for name, array in arrays.items():
        if array.dtype.kind not in KINDS[name]:
            raise TrajectoryError(
                f"{path}: the array {name} has a type that can't be used",
                found=array.dtype,
                expected="numbers" if name == "xy" else "numbers or text",
            )
    return arrays


def _values(array: NDArray[Any]) -> Values:
    """Gives numbers and dates as they are, all else as a list."""
    if array.dtype.kind == "S":
        array = np.char.decode(array, "utf-8", "backslashreplace")
    if array.dtype.kind in "fiuMm":
        return array
    values: list[Any] = array.tolist()
    return values


def _check_shape(path: Path, name: str, array: NDArray[Any], *expected: tuple[int, ...]) -> None:
    if array.shape not in expected:
        raise TrajectoryError(
            f"{path}: the array {name} has the wrong shape",
            found=list(array.shape),
            expected=" or ".join(str(list(shape)) for shape in expected),
        )


def _columns(path: Path, arrays: Arrays) -> Table:
    size = arrays["id"].size
    for name, array in arrays.items():
        _check_shape(path, name, array, (size,))

    def blocks(*_: object) -> Iterator[RawBlock]:
        for first in range(0, size, CHUNK_ROWS):
            last = min(first + CHUNK_ROWS, size)
            columns = {name: _values(array[first:last]) for name, array in arrays.items()}
            yield RawBlock(np.arange(first + 1, last + 1), columns)

    return Table(path, lambda: (block.columns["id"] for block in blocks()), blocks)


def _is_ragged(arrays: Arrays) -> bool:
    """Whether each trajectory is a list of its own."""
    if "xy" in arrays:
        return arrays["xy"].dtype == object
    x = arrays["x"]
    return x.ndim == 2 or (x.dtype == object and any(isinstance(item, list) for item in x.flat))


def _ragged(path: Path, arrays: Arrays) -> Iterator[Value]:
    count = len(arrays["xy" if "xy" in arrays else "x"]) if arrays else 0
    for name, array in arrays.items():
        if array.shape[:1] != (count,):
            _check_shape(path, name, array, (count,))
    for row in range(count):
        yield Value(row + 1, {name: _item(array[row]) for name, array in arrays.items()})


def _item(value: Any) -> Any:
    return value.tolist() if isinstance(value, np.ndarray | np.generic) else value


def _stacked(path: Path, arrays: Arrays) -> Iterator[RawBlock]:
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
    names = arrays["id"].tolist() if "id" in arrays else list(range(count))
    labels = arrays["label"].tolist() if "label" in arrays else None
    for index, name in enumerate(names):
        columns: dict[str, Values] = {
            "id": [name] * points,
            "x": xy[index, :, 0],
            "y": xy[index, :, 1],
        }
        if "t" in arrays:
            columns["t"] = _values(times[index])
        if labels is not None:
            columns["label"] = [labels[index]] * points
        yield RawBlock(np.full(points, index + 1), columns)
