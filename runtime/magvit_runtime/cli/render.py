"""`magvit render`: trajectories to frames."""

from __future__ import annotations

import csv
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import numpy as np
from cyclopts import Parameter

from magvit_runtime.cli.columns import ColumnNames
from magvit_runtime.cli.outcome import Outcome
from magvit_runtime.clips.trajectories import (
    DEFAULT_STYLE,
    ReadReport,
    RenderStyle,
    read_trajectories,
    render_batches,
)
from magvit_runtime.errors import InputError
from magvit_runtime.files.atomic_write import atomic_path
from magvit_runtime.files.outputs import check_outputs

BATCH_SIZE = 64
BATCH_BYTES = 1 << 28  # Of clips in memory, unless one alone takes more.


def render(
    source: Path,
    *,
    output: Annotated[Path, Parameter(alias="-o")],
    style: Annotated[RenderStyle, Parameter(name="*")] = DEFAULT_STYLE,
    columns: ColumnNames | None = None,
) -> Outcome:
    """Draws trajectories as clips: uint8 [N, T, H, W, 3], and a table of their ids and labels.

    Args:
        source: Trajectories: CSV and its like, JSON, Parquet or npz.
        output: .npy file to write; NAME.npy.csv beside it lists row, id and label.
        style: How trajectories are drawn.
        columns: Names of a text table's columns, where it has no header, such as frame,id,x,y.
    """
    if output.suffix.lower() != ".npy":
        raise InputError(f"{output} is of an unknown kind", expected=".npy")
    table_path = output.with_name(f"{output.name}.csv")
    check_outputs(output, table_path, inputs=(source,))
    # An array's header holds its length, so the file is read once to count.
    clips = sum(1 for _ in read_trajectories(source, ReadReport(), columns=columns or ()))
    report = ReadReport()
    shape = (clips, style.frames, style.height, style.width, 3)
    row = 0
    with (
        atomic_path(output) as partial,
        atomic_path(table_path) as partial_table,
        partial_table.open("w", newline="", encoding="utf-8", errors="backslashreplace") as file,
        # Written, not mapped: where the disk is full, a mapping is a signal and not an error.
        partial.open("wb") as array,
    ):
        table = csv.writer(file)
        table.writerow(["row", "id", "label"])
        header = {"descr": "|u1", "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(array, header)
        trajectories = read_trajectories(source, report, columns=columns or ())
        batch_size = max(1, min(BATCH_SIZE, BATCH_BYTES // style.clip_bytes))
        for batch, drawn in render_batches(trajectories, style, batch_size):
            array.write(np.ascontiguousarray(drawn).data)
            for trajectory in batch:
                table.writerow([row, trajectory.id, trajectory.label])
                row += 1
        if row != clips:
            raise InputError(
                f"{source} changed while it was read", found=f"{row} clips", expected=clips
            )
    facts = {
        "clips": clips,
        "shape": list(shape),
        "output": str(output),
        "table": str(table_path),
        "problems": [asdict(problem) for problem in report.problems],
    }
    return Outcome(facts, f"{report.summary()}\n{clips} clips -> {output}, {table_path}")
