"""Points in space to points of a picture, as a camera sees them.

Only operations that IEEE rounds exactly, in a fixed order, so that every machine gives the same
bytes; sines and cosines, whose last bit may differ, are rounded first.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from magvit_runtime.clips.trajectories.camera import AZIMUTH, ELEVATION, Camera, Vector
from magvit_runtime.clips.trajectories.style import RenderStyle

# Nearer than this share of the distance to what is looked at, nothing is drawn.
NEAR = 1e-6
# Steps that sines and cosines are rounded to.
_STEPS = 2.0**40
# What stands for x, y and z, right-handed, where another axis points up: places and signs.
_FRAMES = {
    "z": ((0, 1), (1, 1), (2, 1)),
    "y": ((2, 1), (0, 1), (1, 1)),
    "x": ((1, 1), (2, 1), (0, 1)),
    "-z": ((1, 1), (0, 1), (2, -1)),
    "-y": ((0, 1), (2, 1), (1, -1)),
    "-x": ((2, 1), (1, 1), (0, -1)),
}


@dataclass(frozen=True, eq=False)
class Seen:
    """A path as a camera has it before its picture.

    Attributes:
        points: float64 [points, 3]: right, down and depth, in one unit that the camera chooses.
        distance: Depth of what is looked at, in that unit.
        scale: Pixels of one unit at this depth.
        is_pinhole: Whether what is farther looks smaller.
    """

    points: NDArray[np.float64]
    distance: float
    scale: float
    is_pinhole: bool

    @property
    def near(self) -> float:
        """The smallest depth that is drawn."""
        return self.distance * NEAR

    def pixels(self, points: NDArray[np.float64], style: RenderStyle) -> NDArray[np.float64]:
        """Where points like `points`, not nearer than `near`, are in the picture: [..., 2]."""
        scale = self.scale * self.distance / points[..., 2:] if self.is_pinhole else self.scale
        middle = np.array([style.width - 1, style.height - 1]) / 2
        pixels: NDArray[np.float64] = points[..., :2] * scale + middle
        return pixels

    def nearness(self, depth: NDArray[np.float64], style: RenderStyle) -> NDArray[np.float64]:
        """How near depths are: 1 at what is looked at, 1.5 at the near side, 0.5 at the far one.

        The sides are as far from it as the margin box reaches in the picture's plane.
        """
        reach = box_radius(style) / self.scale
        return np.clip(1 + (self.distance - depth) / (2 * reach), 0.5, 1.5)


def box_radius(style: RenderStyle) -> float:
    """Pixels from the picture's centre to the nearest side of its margin box."""
    return (min(style.width, style.height) - 1) / 2 - style.margin


def see(xyz: NDArray[np.float64], camera: Camera, turn: float, style: RenderStyle) -> Seen:
    """Gives a path as a camera sees it that is turned around what it looks at.

    Args:
        xyz: float64 [points, 3].
        camera: The camera before it is turned.
        turn: Degrees around the axis that points up.
        style: Gives the picture's size and margin.
    """
    xyz = _with_z_up(xyz, camera)
    # Pixels of a unit at the distance of one unit.
    cosine, sine = _circle(camera.field_of_view / 2)
    focus = style.height / 2 * cosine / sine
    if camera.position is not None and camera.look_at is not None:
        return _from_its_place(xyz, camera, turn, focus)
    return _framed(xyz, camera, turn, focus, box_radius(style))


def _framed(
    xyz: NDArray[np.float64], camera: Camera, turn: float, focus: float, radius_px: float
) -> Seen:
    low, high = xyz.min(axis=0), xyz.max(axis=0)
    offset = xyz - (low + high) / 2
    # Of size 1, so that no square overflows, nor vanishes.
    offset = offset / (np.abs(offset).max() or 1)
    radius = float(np.sqrt(_dot(offset, offset)).max()) or 1.0

    azimuth = (AZIMUTH if camera.azimuth is None else camera.azimuth) + turn
    elevation = ELEVATION if camera.elevation is None else camera.elevation
    (cos_a, sin_a), (cos_e, sin_e) = _circle(azimuth), _circle(elevation)
    right = (-sin_a, cos_a, 0.0)
    down = (sin_e * cos_a, sin_e * sin_a, -cos_e)
    away = (-cos_e * cos_a, -cos_e * sin_a, -sin_e)

    is_pinhole = camera.kind == "pinhole"
    share = focus / radius_px
    # The sphere's outline, seen from this distance, touches the margin box.
    distance = radius * math.sqrt(1 + share * share) if is_pinhole else 2 * radius
    scale = focus / distance if is_pinhole else radius_px / radius
    turned = _turned(offset, [right, down, away])
    turned[:, 2] += distance
    return Seen(turned, distance, scale, is_pinhole)


def _from_its_place(xyz: NDArray[np.float64], camera: Camera, turn: float, focus: float) -> Seen:
    ends = np.array([camera.position, camera.look_at], dtype=np.float64)
    position, look_at = _with_z_up(ends, camera)
    ray = look_at - position
    unit = np.abs(ray).max()
    ray = ray / unit
    distance = float(np.sqrt(_dot(ray, ray)))
    x, y, z = (ray / distance).tolist()
    away = (x, y, z)
    level = math.sqrt(x * x + y * y)
    # Right is across the ray and level; straight up or down, it is where x is.
    right = (y / level, -x / level, 0.0) if level > 1e-9 else (1.0, 0.0, 0.0)
    down = _cross(away, right)

    cosine, sine = _circle(turn)
    axes = [(cosine * x - sine * y, sine * x + cosine * y, z) for x, y, z in (right, down, away)]
    turned = _turned((xyz - look_at) / unit, axes)
    turned[:, 2] += distance
    return Seen(turned, distance, focus / distance, camera.kind == "pinhole")


def _with_z_up(points: NDArray[np.float64], camera: Camera) -> NDArray[np.float64]:
    return np.stack([sign * points[:, at] for at, sign in _FRAMES[camera.up]], axis=1)


def _turned(points: NDArray[np.float64], axes: Sequence[Vector]) -> NDArray[np.float64]:
    return np.stack([_dot(points, np.array(axis)) for axis in axes], axis=1)


def _dot(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    # No matrix product: its order of adding differs between machines.
    products = a * b
    total: NDArray[np.float64] = products[..., 0] + products[..., 1] + products[..., 2]
    return total


def _cross(a: Vector, b: Vector) -> Vector:
    return (
        a[1] * b[2] - a[2] * b[1],
        a[2] * b[0] - a[0] * b[2],
        a[0] * b[1] - a[1] * b[0],
    )


def _circle(degrees: float) -> tuple[float, float]:
    """Cosine and sine."""
    angle = math.radians(degrees)
    return round(math.cos(angle) * _STEPS) / _STEPS, round(math.sin(angle) * _STEPS) / _STEPS
