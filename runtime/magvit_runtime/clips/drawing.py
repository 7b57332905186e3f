"""How trajectories were drawn, for the record, and from the record back."""

from __future__ import annotations

import sys
from dataclasses import asdict

import msgspec

from magvit_runtime.bundle.drawing_record import DrawingRecord
from magvit_runtime.clips.trajectories import (
    Camera,
    Cameras,
    Positions,
    ReadReport,
    StyleOptions,
)
from magvit_runtime.errors import BundleError


def drawing_record(
    style: StyleOptions, positions: Positions, cameras: Cameras, report: ReadReport
) -> DrawingRecord:
    """The record of how trajectories are drawn.

    Args:
        style: Size, length and look of the clips.
        positions: What columns are taken for.
        cameras: See trajectories in space.
        report: Of the file, once its first trajectory was read.
    """
    camera = cameras.first.fields() if report.kinds["space"] else None
    # Defaults are left out of a file where they are the very object, and not just equal to it.
    return DrawingRecord(asdict(style), sys.intern(positions), camera, cameras.views)


def drawn_so(record: DrawingRecord) -> tuple[StyleOptions, Positions, Cameras]:
    """The style, positions and cameras of a record.

    Raises:
        BundleError: It has a value that these don't take.
    """
    try:
        style = msgspec.convert(record.style, StyleOptions)
        positions = msgspec.convert(record.positions, Positions)
        camera = None if record.camera is None else msgspec.convert(record.camera, Camera)
        return style, positions, Cameras(camera, record.views)
    except (msgspec.ValidationError, ValueError) as error:
        raise BundleError("the record of how clips were drawn is damaged", found=error) from error
