"""`magvit render`: trajectories to frames."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from cyclopts import Parameter

from magvit_runtime.cli.columns import ColumnNames
from magvit_runtime.cli.outcome import Outcome
from magvit_runtime.cli.space import DEFAULT_SPACE, SpaceOptions, with_space
from magvit_runtime.clips.contact_sheet import preview_kind, write_preview
from magvit_runtime.clips.trajectories import (
    DEFAULT_STYLE,
    Cameras,
    ReadReport,
    RenderStyle,
    Trajectory,
    note_unseen,
    read_trajectories,
    render_batches,
)
from magvit_runtime.errors import InputError
from magvit_runtime.files.atomic_write import atomic_path
from magvit_runtime.files.outputs import check_outputs

BATCH_SIZE = 64
BATCH_BYTES = 1 << 28  # Of clips in memory, unless one alone takes more.
PREVIEW_CLIPS = 24


def render(
    source: Path,
    *,
    output: Annotated[Path | None, Parameter(alias="-o")] = None,
    preview: Path | None = None,
    style: Annotated[RenderStyle, Parameter(name="*")] = DEFAULT_STYLE,
    columns: ColumnNames | None = None,
    space: Annotated[SpaceOptions, Parameter(name="*")] = DEFAULT_SPACE,
) -> Outcome:
    """Draws trajectories as clips: uint8 [N, T, H, W, 3], and a table of their ids and labels.

    Args:
        source: Trajectories: CSV and its like, JSON, Parquet or npz.
        output: .npy file to write; NAME.npy.csv beside it lists row, id and label.
        preview: A .png of the first 24 clips' last frames to write, or a .gif in which they play.
            Without an output nothing more of the file is drawn.
        style: How trajectories are drawn.
        columns: Names of a text table's columns, where it has no header, such as frame,id,x,y.
        space: What the columns are, and what sees trajectories in space.
    """
    if output is None and preview is None:
        raise InputError("there is nothing to write", mend="-o CLIPS.npy, or --preview SHEET.png")
    if output is not None and output.suffix.lower() != ".npy":
        raise InputError(f"{output} is of an unknown kind", expected=".npy")
    if preview is not None:
        preview_kind(preview)
    table = None if output is None else output.with_name(f"{output.name}.csv")
    cameras = space.cameras()
    check_outputs(output, table, preview, inputs=(source, space.camera))

    def trajectories(report: ReadReport) -> Iterator[Trajectory]:
        positions = space.positions or "auto"
        return read_trajectories(source, report, columns=columns or (), positions=positions)

    facts: dict[str, Any] = {}
    lines = []
    report = ReadReport()
    if preview is not None:
        drawn = render_batches(trajectories(report), style, PREVIEW_CLIPS, cameras)
        batch, clips = next(drawn)
        labels = [trajectory.label for trajectory in batch]
        write_preview(preview, clips, [trajectory.id for trajectory in batch], labels)
        facts["preview"] = str(preview)
        lines.append(f"the first {len(batch)} clips -> {preview}")
    if output is not None and table is not None:
        # An array's header holds its length, so the file is read once to count.
        count = cameras.views * sum(1 for _ in trajectories(ReadReport()))
        report = ReadReport()
        _write(source, trajectories(report), count, (output, table), style, cameras, report)
        facts |= {"clips": count, "shape": [count, style.frames, style.height, style.width, 3]}
        facts |= {"output": str(output), "table": str(table)}
        lines.append(f"{count} clips -> {output}, {table}")
    facts["problems"] = [asdict(problem) for problem in report.problems]
    text = "\n".join([report.summary(), *lines])
    return with_space(Outcome(facts, text), cameras, report)


def _write(
    source: Path,
    trajectories: Iterator[Trajectory],
    clips: int,
    outputs: tuple[Path, Path],
    style: RenderStyle,
    cameras: Cameras,
    report: ReadReport,
) -> None:
    """Writes the array of so many clips, and the table of them."""
    output, table_path = outputs
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
        shape = (clips, style.frames, style.height, style.width, 3)
        header = {"descr": "|u1", "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(array, header)
        batch_size = max(1, min(BATCH_SIZE, BATCH_BYTES // style.clip_bytes))
        for batch, drawn in render_batches(trajectories, style, batch_size, cameras):
            array.write(np.ascontiguousarray(drawn).data)
            note_unseen(batch, drawn, style, cameras, report)
            for trajectory in batch:
                table.writerow([row, trajectory.id, trajectory.label])
                row += 1
        if row != clips:
            raise InputError(
                f"{source} changed while it was read", found=f"{row} clips", expected=clips
            )
