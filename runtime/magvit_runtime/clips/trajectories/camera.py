"""Cameras that see trajectories in space: one of a file or the default, and several around."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import msgspec

from magvit_runtime.clips.trajectories.records import LARGEST_NUMBER
from magvit_runtime.errors import InputError

Axis = Literal["x", "y", "z", "-x", "-y", "-z"]
Vector = tuple[float, float, float]

# As Matplotlib looks at a plot of three axes.
AZIMUTH, ELEVATION = -60.0, 30.0
# Beyond these, rounding shows.
SMALLEST_FIELD, LARGEST_FIELD = 0.1, 179
MOST_VIEWS = 360


class Camera(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where a camera stands and how it sees.

    With `position` and `look_at` it stands still, and trajectories are where they are: those that
    it doesn't see aren't drawn. Without them it moves to each trajectory: its middle is looked at
    from `azimuth` and `elevation`, from as far away as its bounding sphere fits into the margin
    box.

    Attributes:
        kind: "pinhole", where what is farther looks smaller; or "orthographic".
        position: Of a camera that stands still: x, y and z in the unit of the trajectories.
        look_at: What is in the middle of its picture.
        field_of_view: Degrees that the picture's height spans, 0.1 to 179. An orthographic camera
            that stands still shows what such a pinhole camera shows at the distance of `look_at`.
        azimuth: Degrees around `up`, from x towards y where z is up; -60 by default.
        elevation: Degrees above the plane, -90 to 90; 30 by default.
        up: The axis that points up.

    Raises:
        InputError: A value can't be used; the message says which and what is expected.
    """

    kind: Literal["pinhole", "orthographic"] = "pinhole"
    position: Vector | None = None
    look_at: Vector | None = None
    field_of_view: float = 40.0
    azimuth: float | None = None
    elevation: float | None = None
    up: Axis = "z"

    def __post_init__(self) -> None:
        if not SMALLEST_FIELD <= self.field_of_view <= LARGEST_FIELD:
            raise InputError(
                "field_of_view of the camera is out of range",
                found=self.field_of_view,
                expected=f"degrees, {SMALLEST_FIELD} to {LARGEST_FIELD}",
            )
        if self.elevation is not None and not -90 <= self.elevation <= 90:
            raise InputError(
                "elevation of the camera is out of range",
                found=self.elevation,
                expected="degrees, -90 to 90",
            )
        if self.azimuth is not None and not abs(self.azimuth) <= 360:
            raise InputError(
                "azimuth of the camera is out of range",
                found=self.azimuth,
                expected="degrees, -360 to 360",
            )
        for name in ("position", "look_at"):
            place: Vector | None = getattr(self, name)
            if place is not None and not all(abs(value) <= LARGEST_NUMBER for value in place):
                raise InputError(f"{name} of the camera isn't finite", found=list(place))
        if (self.position is None) != (self.look_at is None):
            there, lacking = ("position", "look_at") if self.position else ("look_at", "position")
            raise InputError(
                f"the camera has a {there} and no {lacking}",
                mend=f"give it a {lacking} too, or neither: then it frames each trajectory",
            )
        if self.position is not None and (self.azimuth is not None or self.elevation is not None):
            raise InputError(
                "the camera has a position, and angles that would say another",
                mend="leave out position and look_at, or azimuth and elevation",
            )
        if self.position is not None and self.position == self.look_at:
            raise InputError(
                "the camera looks at the place where it stands",
                found=f"position and look_at {list(self.position)}",
                expected="two places",
            )

    def fields(self) -> dict[str, Any]:
        """What it is in full, without what it leaves open: JSON-ready values by name."""
        fields = msgspec.to_builtins(self)
        if not self.stands_still:
            fields["azimuth"] = AZIMUTH if self.azimuth is None else self.azimuth
            fields["elevation"] = ELEVATION if self.elevation is None else self.elevation
        return {name: value for name, value in fields.items() if value is not None}

    @property
    def stands_still(self) -> bool:
        """Whether it has a place of its own, and doesn't frame each trajectory."""
        return self.position is not None

    def __str__(self) -> str:
        lens = f"{self.kind}, field of view {self.field_of_view:g}°, {self.up} up"
        if self.position is not None and self.look_at is not None:
            position, look_at = _words(self.position), _words(self.look_at)
            return f"{lens}, at {position}, looking at {look_at}"
        azimuth = AZIMUTH if self.azimuth is None else self.azimuth
        elevation = ELEVATION if self.elevation is None else self.elevation
        return (
            f"{lens}, from azimuth {azimuth:g}° and elevation {elevation:g}°, framing each "
            "trajectory"
        )


@dataclass(frozen=True)
class Cameras:
    """The cameras that each trajectory in space is seen by.

    Attributes:
        camera: The first; None for the default one.
        views: How many there are: the first and others, evenly around the axis that points up,
            through what is looked at. Above 1, `view_id` names what each sees.

    Raises:
        InputError: There are none, or too many.
    """

    camera: Camera | None = None
    views: int = 1

    def __post_init__(self) -> None:
        if not 1 <= self.views <= MOST_VIEWS:
            raise InputError(
                "views is out of range", found=self.views, expected=f"1 to {MOST_VIEWS}"
            )

    @property
    def first(self) -> Camera:
        """The first camera."""
        return Camera() if self.camera is None else self.camera

    def turn(self, view: int) -> float:
        """Degrees that a view's camera is turned around, from x towards y where z is up."""
        return 360 * view / self.views


ONE_CAMERA = Cameras()


def view_id(name: str, view: int, views: int) -> str:
    """The id of what one of several cameras sees of a trajectory: `name@0`, `name@1` and so on."""
    return name if views == 1 else f"{name}@{view}"


def trajectory_of(clip: str, views: int) -> str:
    """The id of the trajectory of an id that `view_id` gave."""
    return clip if views == 1 else clip.rpartition("@")[0]


def read_camera(path: Path) -> Camera:
    """Reads a camera from a .toml or .json file, with the attributes of `Camera`.

    Raises:
        InputError: The file can't be read, or holds no camera.
    """
    decoders: dict[str, Callable[..., Camera]] = {
        ".toml": msgspec.toml.decode,
        ".json": msgspec.json.decode,
    }
    decode = decoders.get(path.suffix.lower())
    if decode is None:
        raise InputError(f"{path} is of an unknown kind", expected=" or ".join(decoders))
    try:
        return decode(path.read_bytes(), type=Camera)
    except InputError as error:
        raise InputError(
            f"{path}: {error.what}", found=error.found, expected=error.expected, mend=error.mend
        ) from error
    except OSError as error:
        raise InputError(f"{path} can't be read", found=error.strerror or error) from error
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise InputError(
            f"{path} holds no camera",
            found=error,
            expected=f"any of {', '.join(Camera.__struct_fields__)}",
            mend="such as position = [4.0, -4.0, 3.0] and look_at = [0.0, 0.0, 0.5]",
        ) from error


def _words(place: Vector) -> str:
    return "(" + ", ".join(f"{value:g}" for value in place) + ")"
