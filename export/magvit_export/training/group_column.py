"""A column of a trajectory file that says which trajectories belong together, as of one person."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from magvit_runtime.clips.trajectories.formats.opening import open_file
from magvit_runtime.errors import InputError
from magvit_runtime.results.token_files import import_pyarrow

_DELIMITERS = ",;\t|"


def read_groups(path: Path, column: str, ids: Sequence[str]) -> list[str]:
    """The group of each trajectory.

    Args:
        path: A text table with a header, or a Parquet file, with the columns id and `column`.
        column: Its name.
        ids: Of the trajectories.

    Raises:
        InputError: There is no such column, or a trajectory has no group or two.
    """
    if path.suffix.lower() == ".parquet":
        table = import_pyarrow().parquet.read_table(path)
        rows: Iterable[dict[str, Any]] = table.to_pylist()
        names = table.column_names
    else:
        with open_file(path) as file:
            text = io.StringIO(file.read().decode("utf-8-sig", errors="replace"))
        header = text.readline()
        text.seek(0)
        delimiter = max(_DELIMITERS, key=header.count)
        reader = csv.DictReader(text, delimiter=delimiter, skipinitialspace=True)
        rows, names = reader, [name.strip() for name in reader.fieldnames or ()]
        reader.fieldnames = names
    if not {"id", column} <= set(names):
        raise InputError(
            f"{path} has no column {column!r} beside `id`",
            found=", ".join(names),
            mend="--group takes a column of a text table with a header, or of a Parquet file",
        )
    groups: dict[str, str] = {}
    for row in rows:
        name, group = str(row["id"]).strip(), row[column]
        if group in (None, ""):
            continue
        if groups.setdefault(name, str(group)) != str(group):
            raise InputError(
                f"trajectory {name!r} of {path} is in two groups",
                found=f"{groups[name]!r} and {str(group)!r}",
                expected=f"one value of {column} a trajectory",
            )
    lacking = [name for name in ids if name not in groups]
    if lacking:
        raise InputError(
            f"{len(lacking)} trajectories of {path} have no {column}",
            found=", ".join(lacking[:3]),
            mend="fill the column, or leave --group out",
        )
    return [groups[name] for name in ids]
