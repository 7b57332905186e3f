"""`magvit render`: trajectories to frames."""

from __future__ import annotations

import csv
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import numpy as np
from cyclopts import Parameter

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

BATCH_SIZE = 64


def render(
    source: Path,
    *,
    output: Annotated[Path, Parameter(alias="-o")],
    style: Annotated[RenderStyle, Parameter(name="*")] = DEFAULT_STYLE,
) -> Outcome:
    """Draws trajectories as clips: uint8 [N, T, H, W, 3], and a table of their ids and labels.

    Args:
        source: Trajectories: CSV and its like, JSON, Parquet or npz.
        output: .npy file to write; OUTPUT.csv beside it lists row, id and label.
        style: How trajectories are drawn.
    """
    if output.suffix.lower() != ".npy":
        raise InputError(f"{output} is of an unknown kind", expected=".npy")
    # An array's header holds its length, so the file is read once to count.
    clips = sum(1 for _ in read_trajectories(source, ReadReport()))
    report = ReadReport()
    shape = (clips, style.frames, style.height, style.width, 3)
    table_path = output.with_suffix(".csv")
    row = 0
    with (
        atomic_path(output) as partial,
        atomic_path(table_path) as partial_table,
        partial_table.open("w", newline="", encoding="utf-8") as file,
    ):
        table = csv.writer(file)
        table.writerow(["row", "id", "label"])
        frames = np.lib.format.open_memmap(partial, "w+", np.uint8, shape)
        for batch, drawn in render_batches(read_trajectories(source, report), style, BATCH_SIZE):
            frames[row : row + len(batch)] = drawn
            for trajectory in batch:
                table.writerow([row, trajectory.id, trajectory.label])
                row += 1
        frames.flush()
    facts = {
        "clips": clips,
        "shape": list(shape),
        "output": str(output),
        "table": str(table_path),
        "problems": [asdict(problem) for problem in report.problems],
    }
    return Outcome(facts, f"{report.summary()}\n{clips} clips -> {output}, {table_path}")
