"""Reads trajectories from text tables, JSON, Parquet and npz files, one at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path

from magvit_runtime.clips.trajectories.formats.csv_rows import csv_table
from magvit_runtime.clips.trajectories.formats.json_rows import json_points
from magvit_runtime.clips.trajectories.formats.npz_rows import npz_points
from magvit_runtime.clips.trajectories.formats.opening import open_file
from magvit_runtime.clips.trajectories.formats.parquet_rows import parquet_points
from magvit_runtime.clips.trajectories.gathering import gather
from magvit_runtime.clips.trajectories.positions import LAYOUTS, Positions
from magvit_runtime.clips.trajectories.records import ReadReport, Trajectory
from magvit_runtime.clips.trajectories.repair import repair_all
from magvit_runtime.errors import TrajectoryError

TEXT_SUFFIXES = (".csv", ".tsv", ".txt")
JSON_SUFFIXES = (".json", ".jsonl", ".ndjson")
# Names that a trajectory file may end in; ".gz" may follow those of text.
TRAJECTORY_SUFFIXES = (*TEXT_SUFFIXES, *JSON_SUFFIXES, ".parquet", ".npz")

# Dropped rows that say nothing of why a trajectory can't be used.
CONSEQUENT = ("repeated_header", "repeated_time")


def is_trajectory_file(path: Path) -> bool:
    """Whether a file is one of trajectories, by its name."""
    return _kind(path) in TRAJECTORY_SUFFIXES


def read_trajectories(
    path: str | Path,
    report: ReadReport,
    *,
    columns: Sequence[str] = (),
    positions: Positions = "auto",
) -> Iterator[Trajectory]:
    """Reads a file's trajectories as a stream.

    The columns are id, x, y and, where known, t and label, in any order; z of points in space, or
    w and h of boxes, may be there (`positions` has the names), and others are ignored. Ids
    and labels are text; a number is taken as its text. The rows of an id may stand anywhere in the
    file. docs/trajectories.md says what each kind of file may hold, and what becomes of bad rows.

    A text table, JSON lines, a JSON array or a Parquet file is never loaded whole: it is read once
    for its ids and once for its points. Where the rows of each id follow each other, memory holds
    one trajectory's points and a number for each id; else points are sorted in temporary files.

    Args:
        path: A .csv, .tsv, .txt, .json, .jsonl or .ndjson file, each also with .gz after it, or a
            .parquet or .npz file.
        report: Filled while the file is read.
        columns: For a text table without a header: the name of each column, in their order.
        positions: What columns are taken for: "auto" by their names, which are refused where they
            fit two kinds; "xy" points, as if nothing else were there; "xyz" points in space;
            "corner-boxes" (x, y, w, h) from the top left, "center-boxes" from the middle, or
            "corners" (x1, y1, x2, y2).

    Returns:
        The usable trajectories, in the order in which their ids first come. The file's ids are
        read, and its start checked, before this function returns.

    Raises:
        TrajectoryError: The file can't be read or holds no usable trajectory; damage that is found
            where the points are read raises it where the stream comes to it.
    """
    path = Path(path)
    if positions != "auto" and positions not in LAYOUTS:
        expected = ", ".join(["auto", *LAYOUTS])
        raise TrajectoryError("positions are unknown", found=positions, expected=expected)
    trajectories = _refusing_os_errors(path, report, columns, positions)
    first = next(trajectories, None)
    if first is None:
        raise _nothing_usable(path, report)
    return chain([first], trajectories)


def _kind(path: Path) -> str:
    suffixes = [suffix.lower() for suffix in path.suffixes[-2:]]
    if suffixes[1:] == [".gz"]:
        return suffixes[0] if suffixes[0] in TEXT_SUFFIXES + JSON_SUFFIXES else ".gz"
    return suffixes[-1] if suffixes else ""


def _trajectories(
    path: Path, report: ReadReport, names: Sequence[str], positions: Positions
) -> Iterator[Trajectory]:
    kind = _kind(path)
    if names and kind not in TEXT_SUFFIXES:
        raise columns_not_taken(path)
    if kind == ".npz":
        yield from repair_all(npz_points(path, report, positions), report)
    elif kind == ".parquet":
        yield from repair_all(parquet_points(path, report, positions), report)
    else:
        with open_file(path) as file:
            if kind in JSON_SUFFIXES:
                yield from repair_all(json_points(path, file, report, positions), report)
            else:
                table = csv_table(path, file, names, positions)
                yield from repair_all(gather(table, report), report, table.breaks)


def columns_not_taken(path: Path) -> TrajectoryError:
    """Says that a file's columns can't be named, for it isn't a text table."""
    return TrajectoryError(
        f"{path} has names of its own, or no columns",
        found="names for its columns (--columns)",
        expected=f"names for a text table without a header: {', '.join(TEXT_SUFFIXES)}",
        mend="leave them out",
    )


def _refusing_os_errors(
    path: Path, report: ReadReport, names: Sequence[str], positions: Positions
) -> Iterator[Trajectory]:
    if not is_trajectory_file(path):
        raise TrajectoryError(
            f"{path} is of an unknown kind",
            found=path.suffix or "no file name extension",
            expected=f"{', '.join(TRAJECTORY_SUFFIXES[:-1])} or {TRAJECTORY_SUFFIXES[-1]}",
        )
    try:
        # Here, so that a reader doesn't take a missing file for a damaged one.
        if not path.is_fifo():
            path.open("rb").close()
        yield from _trajectories(path, report, names, positions)
    except OSError as error:
        raise TrajectoryError(
            f"{path} can't be opened or read", found=error.strerror or error
        ) from error


def _nothing_usable(path: Path, report: ReadReport) -> TrajectoryError:
    """Says that a file is empty, or what is wrong with the first of its bad rows."""
    wrong = [problem for problem in report.problems if problem.action != "repaired"]
    if not wrong:
        return TrajectoryError(f"{path} is empty: it holds no rows")
    # A row says more than the trajectory that lacks it.
    rows = [item for item in wrong if item.action == "dropped" and item.problem not in CONSEQUENT]
    first = min(rows or wrong, key=lambda problem: problem.row)
    return TrajectoryError(
        f"{path} holds no usable trajectory: row {first.row}: {first.message}",
        found=report.summary(),
    )
