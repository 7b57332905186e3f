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
from magvit_runtime.clips.trajectories.formats.whole_values import (
    BOXES,
    POSITIONS,
    whole_blocks,
)
from magvit_runtime.clips.trajectories.gathering import gather
from magvit_runtime.clips.trajectories.points import Points
from magvit_runtime.clips.trajectories.positions import (
    LAYOUTS,
    PARTS,
    POINT,
    SAY_WHICH,
    SPACE,
    Layout,
    Positions,
)
from magvit_runtime.clips.trajectories.records import ReadReport
from magvit_runtime.clips.trajectories.whole import whole_trajectories
from magvit_runtime.errors import TrajectoryError

Arrays = dict[str, NDArray[Any]]

CHUNK_ROWS = 1 << 14
# Kinds of NumPy's types that each array may have: numbers, text, bytes, objects, dates, booleans.
KINDS = {"t": "fiuUSOMm", "id": "fiuUSOb", "label": "fiuUSOb"}
KINDS |= dict.fromkeys(PARTS, "fiuUSO") | dict.fromkeys(POSITIONS, "fiuO")
# Levels of lists in arrays of objects: values of a trajectory, or its points and their coordinates.
LISTS = dict.fromkeys((*PARTS, "t"), 1) | dict.fromkeys(POSITIONS, 2)


def npz_points(path: Path, report: ReadReport, positions: Positions = "auto") -> Iterator[Points]:
    """Yields the points of each trajectory of an npz file.

    The file holds either the one-dimensional arrays id, x, y and, where known, t and label, all
    of one length; or an array of `POSITIONS`, [trajectories, points, 2 or 3] (4 for boxes), and,
    where known, id [trajectories] (else the index, from 0), t [trajectories, points] or [points],
    and label [trajectories]. Where trajectories differ in length, this is an array of objects
    [trajectories], each [points, 2 or 3]; or x and y are, each [points]. Where x and y stand, z, or
    w and h of boxes, may stand beside them, and other layouts of `positions` too.
    It is loaded whole. What NumPy has pickled, columns of objects, is read without running it.

    Args:
        path: The file.
        report: Collects trajectories and rows that can't be used.
        positions: What its arrays are taken for.

    Raises:
        TrajectoryError: The file is damaged, or an array is missing or has a wrong shape or type.
    """
    arrays = _load(path, positions)
    held = next((name for name in POSITIONS if name in arrays), None)
    if held and arrays[held].dtype != object:
        return whole_trajectories(_stacked(path, held, arrays, positions), report)
    if held or _is_ragged(arrays):
        blocks = whole_blocks(path, _ragged(path, arrays), report, positions)
        return whole_trajectories(blocks, report)
    return gather(_columns(path, arrays), report)


def _load(path: Path, positions: Positions) -> Arrays:
    try:
        # np.load would read other formats too, and give members that hold no array as bytes.
        with zipfile.ZipFile(path) as members, np.load(path, allow_pickle=False) as file:
            held = next((name for name in POSITIONS if name in file.files), None)
            if held:
                names = match_columns(path, file.files, "xy") | {held: file.files.index(held)}
                names = {column: names[column] for column in names if column not in PARTS}
            else:
                names = find_columns(path, file.files, positions)
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
                expected="numbers" if name in POSITIONS else "numbers or text",
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
    x = arrays[_first(arrays)]
    return x.ndim == 2 or (x.dtype == object and any(isinstance(item, list) for item in x.flat))


def _ragged(path: Path, arrays: Arrays) -> Iterator[Value]:
    count = len(arrays[_first(arrays)])
    for name, array in arrays.items():
        if array.shape[:1] != (count,):
            _check_shape(path, name, array, (count,))
    for row in range(count):
        yield Value(row + 1, {name: _item(array[row]) for name, array in arrays.items()})


def _item(value: Any) -> Any:
    return value.tolist() if isinstance(value, np.ndarray | np.generic) else value


def _first(arrays: Arrays) -> str:
    """The array that says how many trajectories there are."""
    return next(name for name in (*POSITIONS, *PARTS) if name in arrays)


def _stacked(path: Path, held: str, arrays: Arrays, positions: Positions) -> Iterator[RawBlock]:
    stack = arrays[held]
    layout = _layout(path, held, stack, positions)
    count, points, _ = stack.shape
    for name in ("id", "label"):
        if name in arrays:
            _check_shape(path, name, arrays[name], (count,))
    if "t" in arrays:
        _check_shape(path, "t", arrays["t"], (count, points), (points,))
        times = np.broadcast_to(arrays["t"], (count, points))
    names = arrays["id"].tolist() if "id" in arrays else list(range(count))
    labels = arrays["label"].tolist() if "label" in arrays else None
    for index, name in enumerate(names):
        columns: dict[str, Values] = {"id": [name] * points}
        columns |= {part: stack[index, :, place] for place, part in enumerate(layout)}
        if "t" in arrays:
            columns["t"] = _values(times[index])
        if labels is not None:
            columns["label"] = [labels[index]] * points
        yield RawBlock(np.full(points, index + 1), columns)


def _layout(path: Path, held: str, stack: NDArray[Any], positions: Positions) -> Layout:
    """What the numbers of a stack's points are."""
    fitting: dict[int, Layout] = {2: POINT, 3: SPACE}
    if held in ("xy", "xyz"):
        fitting = {len(held): fitting[len(held)]}
    if held in BOXES:
        fitting = {}
    if positions != "auto":
        wanted = LAYOUTS[positions][-1]
        # x and y are the first two, whatever follows.
        fitting = {2: wanted, 3: wanted} if positions == "xy" else {len(wanted): wanted}
    axes = stack.shape[2] if stack.ndim == 3 and stack.shape[1] >= 2 else 0
    if axes not in fitting:
        raise TrajectoryError(
            f"{path}: the array {held} has the wrong shape",
            found=list(stack.shape),
            expected=f"[trajectories, points ≥ 2, {' or '.join(map(str, fitting)) or 4}]",
            mend=SAY_WHICH if axes == 4 and positions == "auto" else None,
        )
    return fitting[axes]
