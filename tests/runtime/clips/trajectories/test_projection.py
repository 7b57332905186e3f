"""Cameras against a look-at matrix and a projection matrix, as graphics libraries make them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from magvit_runtime.clips.trajectories import Camera, RenderStyle
from magvit_runtime.clips.trajectories.projection import box_radius, see

Floats = NDArray[np.float64]
STYLE = RenderStyle(height=96, width=128, margin=10)
UPS: dict[str, list[float]] = {
    "x": [1, 0, 0],
    "y": [0, 1, 0],
    "z": [0, 0, 1],
    "-x": [-1, 0, 0],
    "-y": [0, -1, 0],
    "-z": [0, 0, -1],
}


def by_matrices(
    xyz: Floats, position: Floats, look_at: Floats, up: Floats, field: float, style: RenderStyle
) -> Floats:
    """Pixels by gluLookAt and gluPerspective, and the viewport of a picture's pixel centres."""
    forward = (look_at - position) / np.linalg.norm(look_at - position)
    side = np.cross(forward, up)
    side /= np.linalg.norm(side)
    view = np.eye(4)
    view[:3, :3] = [side, np.cross(side, forward), -forward]
    view[:3, 3] = -view[:3, :3] @ position
    focus = 1 / np.tan(np.radians(field) / 2)
    aspect = style.width / style.height
    projection = np.array(
        [[focus / aspect, 0, 0, 0], [0, focus, 0, 0], [0, 0, -1, -0.2], [0, 0, -1, 0]]
    )
    clip = np.c_[xyz, np.ones(len(xyz))] @ view.T @ projection.T
    x, y = (clip[:, :2] / clip[:, 3:]).T
    return np.stack([(x + 1) / 2 * style.width - 0.5, (1 - y) / 2 * style.height - 0.5], axis=1)


def rotation(axis: Floats, degrees: float) -> Floats:
    """Rodrigues' formula."""
    angle = np.radians(degrees)
    cross = np.array([[0, -axis[2], axis[1]], [axis[2], 0, -axis[0]], [-axis[1], axis[0], 0]])
    turned: Floats = np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross
    return turned


@pytest.mark.parametrize("up", UPS)
@pytest.mark.parametrize("turn", [0, 90, 123.0])
def test_a_camera_that_stands_still(up: str, turn: float) -> None:
    random = np.random.default_rng(0)
    xyz = random.normal(size=(20, 3))
    position, look_at = np.array([4.0, -5.0, 6.0]), np.array([0.5, 0.25, -0.5])
    camera = Camera(position=tuple(position), look_at=tuple(look_at), field_of_view=35, up=up)
    seen = see(xyz, camera, turn, STYLE)
    axis = np.array(UPS[up], float)
    turned = look_at + rotation(axis, turn) @ (position - look_at)
    expected = by_matrices(xyz, turned, look_at, axis, 35, STYLE)
    np.testing.assert_allclose(seen.pixels(seen.points, STYLE), expected, atol=1e-8)


@pytest.mark.parametrize(("up", "from_axis", "to_axis"), [("z", 0, 1), ("y", 2, 0), ("x", 1, 2)])
def test_the_camera_that_frames_stands_where_its_angles_say(
    up: str, from_axis: int, to_axis: int
) -> None:
    xyz = np.random.default_rng(1).normal(size=(20, 3)) * [3, 1, 2] + [50, -7, 1]
    camera = Camera(azimuth=25, elevation=40, field_of_view=50, up=up)
    seen = see(xyz, camera, 10, STYLE)
    middle = (xyz.min(axis=0) + xyz.max(axis=0)) / 2
    radius = np.linalg.norm(xyz - middle, axis=1).max()
    # The picture of a sphere of this radius touches the margin box.
    focus = STYLE.height / 2 / np.tan(np.radians(25))
    angle = np.arctan(box_radius(STYLE) / focus)
    distance = radius / np.sin(angle)
    azimuth, elevation = np.radians(35), np.radians(40)
    axis = np.array(UPS[up], float)
    direction = np.sin(elevation) * axis
    direction[from_axis] += np.cos(elevation) * np.cos(azimuth)
    direction[to_axis] += np.cos(elevation) * np.sin(azimuth)
    expected = by_matrices(xyz, middle + distance * direction, middle, axis, 50, STYLE)
    np.testing.assert_allclose(seen.pixels(seen.points, STYLE), expected, atol=1e-8)


def test_an_orthographic_camera_shows_the_same_at_the_distance_of_what_it_looks_at() -> None:
    place: dict[str, Any] = {"position": (0.0, -5.0, 0.0), "look_at": (0.0, 0.0, 0.0)}
    flat = np.array([[0.5, 0, 0.25], [-1, 0, 1], [0, 0, 0]])
    pinhole, orthographic = (
        see(flat, Camera(kind, **place), 0, STYLE) for kind in ("pinhole", "orthographic")
    )
    expected = pinhole.pixels(pinhole.points, STYLE)
    np.testing.assert_allclose(orthographic.pixels(orthographic.points, STYLE), expected)
    deeper = see(flat + np.array([0, 3, 0]), Camera("orthographic", **place), 0, STYLE)
    np.testing.assert_allclose(deeper.pixels(deeper.points, STYLE), expected)


def test_north_is_up_where_the_camera_looks_straight_down() -> None:
    xyz = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0]], float)
    fixed = Camera(position=(0.0, 0.0, 5.0), look_at=(0.0, 0.0, 0.0))
    framed = Camera("orthographic", azimuth=-90, elevation=90)
    for camera in (fixed, framed):
        seen = see(xyz, camera, 0, STYLE)
        origin, east, north = seen.pixels(seen.points, STYLE)
        assert east[0] > origin[0] + 10, camera
        assert north[1] < origin[1] - 10, camera
        np.testing.assert_allclose([east[1], north[0]], origin[::-1], atol=1e-9)


@settings(max_examples=300, deadline=None, derandomize=True)
@given(
    st.lists(
        st.tuples(*[st.floats(-1e300, 1e300, allow_subnormal=True)] * 3), min_size=2, max_size=6
    ),
    st.sampled_from([Camera(), Camera("orthographic", up="y"), Camera(field_of_view=179)]),
    st.floats(0, 360),
)
def test_a_framed_path_never_leaves_its_box(
    points: list[tuple[float, float, float]], camera: Camera, turn: float
) -> None:
    seen = see(np.array(points), camera, turn, STYLE)
    assert (seen.points[:, 2] > seen.near).all()
    pixels = seen.pixels(seen.points, STYLE) - [127 / 2, 95 / 2]
    assert (np.sqrt((pixels**2).sum(axis=1)) <= box_radius(STYLE) * (1 + 1e-6)).all()


@pytest.mark.parametrize("scale", [1e-300, 1e-9, 1e200])
def test_extreme_numbers_are_seen_as_others_are(scale: float) -> None:
    xyz = np.array([[-1.0, -1, 0.5], [1, 1, 2], [0, 1, 1]])
    seen, other = (see(points, Camera(), 0, STYLE) for points in (xyz, xyz * scale))
    np.testing.assert_allclose(
        seen.pixels(seen.points, STYLE), other.pixels(other.points, STYLE), atol=1e-6
    )
