"""Trajectories in (text tables, JSON, Parquet, npz), uint8 clips out, in NumPy alone.

Example:
    >>> report = ReadReport()
    >>> stream = read_trajectories("gestures.csv", report)
    >>> for batch, clips in render_batches(stream, RenderStyle(), batch_size=16):
    ...     print(batch[0].id, clips.shape)  # clips: uint8 [16, 17, 128, 128, 3]
    >>> print(report.summary())
"""

from magvit_runtime.clips.trajectories.camera import ONE_CAMERA, Camera, Cameras, read_camera
from magvit_runtime.clips.trajectories.positions import Positions
from magvit_runtime.clips.trajectories.readers import (
    TRAJECTORY_SUFFIXES,
    columns_not_taken,
    is_trajectory_file,
    read_trajectories,
)
from magvit_runtime.clips.trajectories.records import ReadReport, RowProblem, Trajectory
from magvit_runtime.clips.trajectories.rendering import note_unseen, render, render_batches
from magvit_runtime.clips.trajectories.style import DEFAULT_STYLE, RenderStyle, StyleOptions

__all__ = [
    "DEFAULT_STYLE",
    "ONE_CAMERA",
    "TRAJECTORY_SUFFIXES",
    "Camera",
    "Cameras",
    "Positions",
    "ReadReport",
    "RenderStyle",
    "RowProblem",
    "StyleOptions",
    "Trajectory",
    "columns_not_taken",
    "is_trajectory_file",
    "note_unseen",
    "read_camera",
    "read_trajectories",
    "render",
    "render_batches",
]
