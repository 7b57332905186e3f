"""Writes generated trajectories to files that `read_trajectories` reads."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from magvit_runtime.clips.generated.generating import GeneratedTrajectory
from magvit_runtime.errors import InputError
from magvit_runtime.files.atomic_write import atomic_path
from magvit_runtime.hardware.packages import missing_package

GENERATED_SUFFIXES = (".csv", ".json", ".parquet")
AXES = ("x", "y", "z")
_AT_ONCE = 1000  # Trajectories of one row group.


def write_generated(
    path: Path, trajectories: Iterable[GeneratedTrajectory], dimensions: int
) -> None:
    """Writes trajectories as they come; the file appears when it is whole.

    Args:
        path: .csv and .parquet: a row a point, columns id, t, x, y, z (in three dimensions) and
            label. .json: an array of objects {"id", "class", "positions": [[x, y, z], …]}.
        trajectories: All of the same number of dimensions.
        dimensions: That number.

    Raises:
        InputError: The file is of another kind, or can't be written.
        MissingPackageError: It is Parquet, and pyarrow isn't installed.
    """
    columns = ("id", "t", *AXES[:dimensions], "label")
    match path.suffix.lower():
        case ".csv":
            _write_csv(path, trajectories, columns)
        case ".json":
            _write_json(path, trajectories)
        case ".parquet":
            _write_parquet(path, iter(trajectories), columns)
        case suffix:
            expected = ", ".join(GENERATED_SUFFIXES)
            found = suffix or "no file name extension"
            raise InputError(f"{path} is of an unknown kind", found=found, expected=expected)


def _write_csv(
    path: Path, trajectories: Iterable[GeneratedTrajectory], columns: tuple[str, ...]
) -> None:
    with atomic_path(path) as partial, partial.open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(columns)
        for trajectory in trajectories:
            table.writerows(_rows(trajectory))


def _write_json(path: Path, trajectories: Iterable[GeneratedTrajectory]) -> None:
    with atomic_path(path) as partial, partial.open("w", encoding="utf-8") as file:
        for place, trajectory in enumerate(trajectories):
            record = {
                "id": trajectory.id,
                "class": trajectory.label,
                "positions": trajectory.positions.tolist(),
            }
            file.write(("[\n" if place == 0 else ",\n") + json.dumps(record))
        file.write("\n]\n")


def _write_parquet(
    path: Path, trajectories: Iterator[GeneratedTrajectory], columns: tuple[str, ...]
) -> None:
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError as error:
        raise missing_package("pyarrow", f"writing {path}") from error

    kinds = {"id": pa.string(), "label": pa.string()}
    schema = pa.schema([(name, kinds.get(name, pa.float64())) for name in columns])
    with atomic_path(path) as partial, pq.ParquetWriter(partial, schema) as file:
        while some := list(islice(trajectories, _AT_ONCE)):
            rows = [row for trajectory in some for row in _rows(trajectory)]
            values = map(list, zip(*rows, strict=True))
            file.write_table(pa.table(dict(zip(columns, values, strict=True)), schema))


def _rows(trajectory: GeneratedTrajectory) -> Iterator[tuple[Any, ...]]:
    """A point each, in the order of the columns."""
    for t, point in zip(trajectory.t.tolist(), trajectory.positions.tolist(), strict=True):
        yield trajectory.id, t, *point, trajectory.label
