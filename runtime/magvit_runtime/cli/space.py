"""What commands that draw trajectories take and say of boxes, and of cameras in space."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from magvit_runtime.bundle.drawing_record import DrawingRecord
from magvit_runtime.cli.outcome import Outcome
from magvit_runtime.clips.drawing import drawn_so
from magvit_runtime.clips.trajectories import (
    DEFAULT_STYLE,
    ONE_CAMERA,
    Camera,
    Cameras,
    Positions,
    ReadReport,
    StyleOptions,
    is_trajectory_file,
    read_camera,
)
from magvit_runtime.clips.trajectories.camera import Axis
from magvit_runtime.errors import InputError


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
        views: Cameras around each trajectory in space, evenly; 1 by default. Each gives a clip,
            with the id NAME@0, NAME@1 and so on.
    """

    positions: Positions | None = None
    camera: Path | None = None
    up: Axis | None = None
    views: int | None = None

    def cameras(self, known: Cameras = ONE_CAMERA) -> Cameras:
        """Reads the camera.

        Args:
            known: The cameras, where options don't say otherwise.

        Raises:
            InputError: Its file can't be read, or there are too many views.
        """
        camera = known.camera if self.camera is None else read_camera(self.camera)
        if self.up is not None:
            camera = msgspec.structs.replace(camera or Camera(), up=self.up)
        return Cameras(camera, known.views if self.views is None else self.views)


DEFAULT_SPACE = SpaceOptions()


def check_space(source: Path, space: SpaceOptions) -> None:
    """Refuses options of trajectories for frames and videos.

    Raises:
        InputError: There are any, and the source isn't a trajectory file.
    """
    if not is_trajectory_file(source):
        refuse_space(source, space)


def refuse_space(source: Path | str, space: SpaceOptions) -> None:
    """Refuses options of trajectories.

    Raises:
        InputError: There are any.
    """
    given = [name for name, value in vars(space).items() if value is not None]
    if given:
        raise InputError(
            f"{source} holds no trajectories, and nothing is drawn",
            found=", ".join(f"--{name}" for name in given),
            mend="leave them out",
        )


def refuse_variations(source: Path | str, variations: int) -> None:
    """Refuses varied copies where nothing is drawn.

    Raises:
        InputError: There are to be any.
    """
    if variations:
        raise InputError(
            f"{source} holds no trajectories, and frames aren't varied",
            found=f"--variations {variations}",
            mend="leave it out",
        )


@dataclass(frozen=True)
class Drawing:
    """How a command draws trajectories.

    Attributes:
        style: Size, length and look of the clips.
        positions: What columns are taken for.
        cameras: See trajectories in space.
        differences: Where it isn't as a classifier's training clips were drawn, in words.
    """

    style: StyleOptions
    positions: Positions
    cameras: Cameras
    differences: tuple[str, ...] = ()


def as_trained(
    style: StyleOptions | None, space: SpaceOptions, trained: DrawingRecord | None
) -> Drawing:
    """Draws as the clips that a classifier was trained on, but for what options say.

    Args:
        style: The style, where an option gave any of it.
        space: What options gave.
        trained: How the training clips were drawn, where it is known.

    Raises:
        InputError: The camera can't be read.
        BundleError: The record is damaged.
    """
    if trained is None:
        positions = space.positions or "auto"
        return Drawing(style or DEFAULT_STYLE, positions, space.cameras())
    known_style, known_positions, known = drawn_so(trained)
    drawing = Drawing(
        style or known_style, space.positions or known_positions, space.cameras(known)
    )
    differences = [
        f"{field.name} {getattr(known_style, field.name)}"
        for field in dataclasses.fields(StyleOptions)
        if getattr(known_style, field.name) != getattr(drawing.style, field.name)
    ]
    if drawing.cameras.first.fields() != known.first.fields():
        differences.append(f"camera ({known.first})")
    if drawing.cameras.views != known.views:
        differences.append(f"views {known.views}")
    return dataclasses.replace(drawing, differences=tuple(differences))


def unlike_training(
    drawing: Drawing, trained: DrawingRecord | None, report: ReadReport
) -> tuple[str, ...]:
    """How training clips were drawn where these weren't, in words.

    Args:
        drawing: How these were drawn.
        trained: How the training clips were, where it is known.
        report: Of the file that was read.
    """
    if trained is None:
        return ()
    was_flat = trained.camera is None and report.kinds["space"] > 0
    return (*drawing.differences, *(["nothing in space"] if was_flat else []))


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
        facts["camera"] = cameras.first.fields()
        facts["views"] = cameras.views
        around = f", and {cameras.views - 1} more around" if cameras.views > 1 else ""
        default = "" if cameras.camera else "default "
        text += f"\nseen by the {default}camera ({cameras.first}){around}"
    return Outcome(outcome.facts | facts, text, outcome.passed)
