"""Trajectories in (text tables, JSON, Parquet, npz), uint8 clips out, in NumPy alone.

Example:
    >>> report = ReadReport()
    >>> stream = read_trajectories("gestures.csv", report)
    >>> for batch, clips in render_batches(stream, RenderStyle(), batch_size=16):
    ...     print(batch[0].id, clips.shape)  # clips: uint8 [16, 17, 128, 128, 3]
    >>> print(report.summary())
"""

from magvit_runtime.clips.trajectories.readers import (
    TRAJECTORY_SUFFIXES,
    columns_not_taken,
    is_trajectory_file,
    read_trajectories,
)
from magvit_runtime.clips.trajectories.records import ReadReport, RowProblem, Trajectory
from magvit_runtime.clips.trajectories.rendering import render, render_batches
from magvit_runtime.clips.trajectories.style import DEFAULT_STYLE, RenderStyle, StyleOptions

__all__ = [
    "DEFAULT_STYLE",
    "TRAJECTORY_SUFFIXES",
    "ReadReport",
    "RenderStyle",
    "RowProblem",
    "StyleOptions",
    "Trajectory",
    "columns_not_taken",
    "is_trajectory_file",
    "read_trajectories",
    "render",
    "render_batches",
]
