"""Reads trajectories from CSV, Parquet and npz files, one at a time."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain
from pathlib import Path

from magvit_runtime.clips.trajectories.csv_rows import csv_rows
from magvit_runtime.clips.trajectories.npz_rows import npz_trajectories
from magvit_runtime.clips.trajectories.parquet_rows import parquet_rows
from magvit_runtime.clips.trajectories.records import PointRow, ReadReport, Trajectory
from magvit_runtime.clips.trajectories.repair import group_by_id, repair_all
from magvit_runtime.errors import TrajectoryError


def read_trajectories(path: str | Path, report: ReadReport) -> Iterator[Trajectory]:
    """Reads a file's trajectories as a stream.

    The columns are id, x, y and, where known, t and label, in any order; others are ignored. Ids
    and labels are text; a number is taken as its text. The rows of one id follow each other.
    `npz_trajectories` says what else an npz file may hold; `repair` what becomes of bad rows. A
    CSV or Parquet file is never loaded whole: memory holds one trajectory's rows and all ids.

    Args:
        path: A .csv, .parquet or .npz file.
        report: Filled while the file is read.

    Returns:
        The usable trajectories, in file order. The file is opened, and its start checked, before
        this function returns.

    Raises:
        TrajectoryError: The file can't be read or holds no usable trajectory; damage further on
            in the file raises it where the stream comes to it.
    """
    path = Path(path)
    trajectories = _refusing_os_errors(path, repair_all(_open(path, report), report))
    first = next(trajectories, None)
    if first is None:
        raise TrajectoryError(f"{path} holds no usable trajectory", found=report.summary())
    return chain([first], trajectories)


def _open(path: Path, report: ReadReport) -> Iterator[tuple[str, list[PointRow]]]:
    match path.suffix.lower():
        case ".csv":
            return group_by_id(csv_rows(path, report), report)
        case ".parquet":
            return group_by_id(parquet_rows(path), report)
        case ".npz":
            return npz_trajectories(path, report)
    raise TrajectoryError(
        f"{path} is of an unknown kind",
        found=path.suffix or "no file name extension",
        expected=".csv, .parquet or .npz",
    )


def _refusing_os_errors(path: Path, stream: Iterator[Trajectory]) -> Iterator[Trajectory]:
    try:
        # Here, so that a reader doesn't take a missing file for a damaged one.
        path.open("rb").close()
        yield from stream
    except OSError as error:
        raise TrajectoryError(f"{path} can't be opened or read", found=error.strerror) from error
