"""What commands that draw trajectories take and say of boxes, and of cameras in space."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from magvit_runtime.cli.outcome import Outcome
from magvit_runtime.clips.trajectories import Camera, Cameras, Positions, ReadReport, read_camera
from magvit_runtime.clips.trajectories.camera import Axis


@dataclass(frozen=True)
class SpaceOptions:
    """What the columns of trajectories are, and what sees those in space.

    Attributes:
        positions: What columns are taken for: auto by their names; xy points, whatever else is
            there; xyz points in space; corner-boxes x, y, w, h from the top left; center-boxes from
            the middle; corners x1, y1, x2, y2.
        camera: A .toml or .json file that says where the camera of trajectories in space stands; a
            default one frames each trajectory.
        up: The axis that points up, in place of the camera's; z by default.
        views: Cameras around each trajectory in space, evenly; 1 by default. Each gives a clip, with
            the id NAME@0, NAME@1 and so on.
    """

    positions: Positions | None = None
    camera: Path | None = None
    up: Axis | None = None
    views: int | None = None

    def cameras(self) -> Cameras:
        """Reads the camera.

        Raises:
            InputError: Its file can't be read, or there are too many views.
        """
        camera = None if self.camera is None else read_camera(self.camera)
        if self.up is not None:
            camera = msgspec.structs.replace(camera or Camera(), up=self.up)
        return Cameras(camera, 1 if self.views is None else self.views)


DEFAULT_SPACE = SpaceOptions()


def with_space(outcome: Outcome, cameras: Cameras, report: ReadReport) -> Outcome:
    """An outcome that also says what boxes were taken for, and what saw trajectories in space."""
    facts: dict[str, Any] = {}
    text = outcome.text
    if report.boxes_from:
        facts["boxes_from"] = report.boxes_from
        text += f"\nboxes from the {report.boxes_from}".replace("the two", "two")
        if report.boxes_from == "top left":
            text += "; --positions center-boxes takes x, y for the middle"
    if report.kinds["space"]:
        facts["camera"] = msgspec.to_builtins(cameras.first)
        facts["views"] = cameras.views
        around = f", and {cameras.views - 1} more around" if cameras.views > 1 else ""
        default = "" if cameras.camera else "default "
        text += f"\nseen by the {default}camera ({cameras.first}){around}"
    return Outcome(outcome.facts | facts, text, outcome.passed)
