"""Clips of paths in space and of boxes: heads, cuts, views, and the same bytes everywhere."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Iterator
from math import cos, radians, sin, tan

import numpy as np
import pytest
from numpy.typing import NDArray

from magvit_runtime.clips.trajectories import (
    Camera,
    Cameras,
    ReadReport,
    RenderStyle,
    Trajectory,
    note_unseen,
    render,
    render_batches,
)
from magvit_runtime.errors import InputError

STYLE = RenderStyle(height=65, width=65, frames=5, margin=8)
# From the south, level, so that x is right and z up in the picture.
SOUTH = Cameras(Camera(position=(0.0, -4.0, 0.0), look_at=(0.0, 0.0, 0.0)))


def path(points: object, name: str = "a") -> Trajectory:
    xyz = np.array(points, dtype=np.float64)
    xy, z = np.ascontiguousarray(xyz[:, :2]), xyz[:, 2].copy()
    return Trajectory(name, xy, np.arange(float(len(xyz))), z=z)


def box(rows: object) -> Trajectory:
    xywh = np.array(rows, dtype=np.float64)
    xy, size = np.ascontiguousarray(xywh[:, :2]), np.ascontiguousarray(xywh[:, 2:])
    return Trajectory("b", xy, np.arange(float(len(xywh))), size=size)


def knot(number: int) -> Trajectory:
    """Made of integers and quarters alone, so that every machine makes the same."""
    k = np.arange(32)
    points = np.stack([k * (k + number) % 31, 13 * k % (17 + number), k * 7 % 23 / 4], axis=1)
    return path(points)


def middle(picture: NDArray[np.uint8], above: int) -> tuple[float, float]:
    """Column and row of the centre of what is brighter."""
    rows, columns = np.nonzero(picture[..., 0] > above)
    return columns.mean(), rows.mean()


def test_the_bytes_are_the_same_on_every_machine() -> None:
    cases = [
        (RenderStyle(), Cameras(views=3)),
        (RenderStyle(height=48, width=80, frames=4), Cameras(Camera("orthographic", up="-y"), 2)),
        (STYLE, Cameras(Camera(position=(9.0, -20.0, 12.5), look_at=(15.0, 9.0, 2.0)), 2)),
    ]
    digests = [
        hashlib.sha256(render([knot(number) for number in range(8)], *case)).hexdigest()[:16]
        for case in cases
    ]
    assert digests == ["58ddc24b93e95009", "346784f8a07159d6", "bd7e679b9ac3beb2"]


def test_the_bytes_of_boxes_are_the_same_on_every_machine() -> None:
    k = np.arange(20)
    boxes = [
        box(np.stack([k * (k + n) % 31, 13 * k % 17, 2 + k % 5, 1 + k * n % 7], axis=1))
        for n in range(6)
    ]
    digests = [
        hashlib.sha256(render(boxes, style)).hexdigest()[:16]
        for style in (RenderStyle(), RenderStyle(height=40, width=90, y_axis="up", background=20))
    ]
    assert digests == ["422577780f17c206", "0955094aa91d0154"]


def test_heads_are_where_the_camera_sees_them_also_between_points() -> None:
    """Between two points the place is linear in space, not in the picture."""
    a, b = np.array([-0.4, -1.0, 0.3]), np.array([1.0, 4.0, -0.5])
    clip = render([path([a, b])], STYLE, SOUTH)[0]
    focus = 65 / 2 / tan(radians(20))
    for frame in range(5):
        x, y, z = a + (b - a) * frame / 4
        expected = (32 + focus * x / (y + 4), 32 - focus * z / (y + 4))
        assert middle(clip[frame], 111) == pytest.approx(expected, abs=0.3)


def test_near_heads_are_larger_and_brighter() -> None:
    clip = render([path([[0, 1.5, 0], [0, -1.5, 0]])], STYLE, SOUTH)[0]
    sizes = [(frame > 0).sum() for frame in clip]
    assert sizes == sorted(sizes)
    assert sizes[-1] > 4 * sizes[0]
    assert clip[0].max() == 182 + 1  # Half of the way from the trail's level, 110, to 255.
    assert clip[2].max() == pytest.approx(219, abs=1)
    assert clip[-1].max() == 255


def test_what_is_behind_the_camera_is_not_drawn() -> None:
    through = path([[0, 4, 0], [0.5, -12, 0]])
    clip = render([through], STYLE, SOUTH)[0]
    # Frames 2 to 4 are behind it: there the trail reaches the edge, and there is no head.
    assert [int(frame.max() > 110) for frame in clip] == [1, 1, 0, 0, 0]
    assert (clip[2:, 32, 40:, 0] == 110).any()
    behind = render([path([[0, -5, 0], [0, -9, 1]])], STYLE, SOUTH)
    assert behind.max() == 0


def test_what_is_beside_the_picture_is_cut_at_its_edge() -> None:
    """A long way outside costs nothing, and what crosses the edge is drawn up to it."""
    wide = render([path([[-1e9, 0, 0], [1e9, 0, 0]])], STYLE, SOUTH)[0]
    assert (wide[-1, 32, :, 0] > 0).all()
    assert wide[2, 32, 32, 0] > 110
    beside = render([path([[5, 0, 0], [6, 0, 0]])], STYLE, SOUTH)
    assert beside.max() == 0
    half = render([path([[1.456 / 65 * 65.5, 0, 0], [9, 0, 0]])], STYLE, SOUTH)[0]
    assert (half[0, :, 62:, 0] > 110).any()  # Half of the disc is in the picture.


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("scale", [1e-300, 1e-12, 1.0, 1e12, 1e299])
def test_no_number_is_too_large_for_a_camera_that_stands_still(scale: float) -> None:
    near = Camera(position=(0.0, -1e-12, 0.0), look_at=(0.0, 0.0, 0.0))
    for camera in (near, south_and_higher(), Camera(position=(0.0, 0, 1e300), look_at=(0.0, 0, 0))):
        items = [path(np.array([[-1, 2, 1], [1, -1, 0.5], [0.1, 3, -1]]) * scale)]
        assert render(items, STYLE, Cameras(camera, 2)).shape == (2, 5, 65, 65, 3)


def test_a_line_towards_the_camera_is_a_dot_that_grows() -> None:
    camera = Cameras(Camera(azimuth=-90, elevation=0))
    clip = render([path([[3, 2, 1], [3, -2, 1]])], STYLE, camera)[0]
    for frame in clip:
        assert middle(frame, 0) == pytest.approx((32, 32))
    assert (clip[-1] > 0).sum() > 4 * (clip[0] > 0).sum()


def test_points_all_in_one_place_are_a_dot_at_the_centre() -> None:
    clip = render([path([[7e8, -3, 2]] * 4)], STYLE)[0]
    assert (clip == clip[0]).all()
    assert middle(clip[0], 0) == pytest.approx((32, 32))


def test_views_stand_evenly_around() -> None:
    """A point on a circle is seen where the camera has turned to."""
    cameras = Cameras(Camera("orthographic", azimuth=-90, elevation=0), 4)
    circle = path([[cos(k * 0.1), sin(k * 0.1), 0] for k in range(63)])
    clips = render([circle], STYLE, cameras)
    assert clips.shape == (4, 5, 65, 65, 3)
    # It starts in the east: at the right from the south, in front from the east, and so on.
    columns = [middle(clip[0], 0)[0] for clip in clips]
    assert columns == pytest.approx([56, 32, 8, 32], abs=1)
    assert clips[1][0].max() == 255
    assert clips[3][0].max() < 190


def test_views_of_a_camera_that_stands_still_turn_around_what_it_looks_at() -> None:
    cameras = Cameras(south_and_higher(), 2)
    there_and_back = [path([[1, 0, 0], [1, 0, 1]]), path([[-1, 0, 0], [-1, 0, 1]])]
    clips = render(there_and_back, STYLE, cameras)
    # From the north, what is in the west is where the east is from the south.
    np.testing.assert_array_equal(clips[0], clips[3])
    np.testing.assert_array_equal(clips[1], clips[2])
    assert (clips[0] != clips[1]).any()


def south_and_higher() -> Camera:
    return Camera(position=(0.0, -4.0, 0.5), look_at=(0.0, 0.0, 0.5))


def test_batches_hold_so_many_clips_and_name_the_views() -> None:
    items = [dataclasses.replace(knot(number), id=f"k@{number}") for number in range(3)]
    taken = []

    def source() -> Iterator[Trajectory]:
        for item in items:
            taken.append(item.id)
            yield item

    cameras = Cameras(views=3)
    batches = render_batches(source(), STYLE, batch_size=2, cameras=cameras)
    first, clips = next(batches)
    assert [item.id for item in first] == ["k@0@0", "k@0@1"]
    assert taken == ["k@0"]
    rest = list(batches)
    assert [len(batch) for batch, _ in rest] == [2, 2, 2, 1]
    assert rest[-1][0][0].id == "k@2@2"
    joined = np.concatenate([clips, *(part for _, part in rest)])
    np.testing.assert_array_equal(joined, render(items, STYLE, cameras))


def test_clips_that_a_fixed_camera_cant_see_are_reported() -> None:
    report = ReadReport()
    items = [path([[0, 0, 0], [1, 0, 0]], "seen"), path([[0, -9, 0], [1, -9, 0]], "behind")]
    note_unseen(items, render(items, STYLE, SOUTH), STYLE, SOUTH, report)
    assert [(found.trajectory, found.problem, found.action) for found in report.problems] == [
        ("behind", "out_of_view", "noted")
    ]


@pytest.mark.parametrize("cameras", [Cameras(views=2), Cameras(Camera())])
def test_a_camera_needs_something_in_space(cameras: Cameras) -> None:
    flat = Trajectory("flat", np.zeros((2, 2)), np.arange(2.0))
    for item, kind in ((flat, "x and y"), (box([[0, 0, 1, 1], [1, 0, 1, 1]]), "a box")):
        with pytest.raises(InputError, match=f"no z for a camera to see: found {kind}"):
            render([item], STYLE, cameras)


def test_flat_paths_are_drawn_the_same_beside_others() -> None:
    flat = Trajectory("flat", np.array([[0.0, 0], [3, 1], [1, 2]]), np.arange(3.0))
    alone = render([flat], STYLE)[0]
    np.testing.assert_array_equal(render([knot(1), flat, knot(2)], STYLE)[1], alone)


def test_boxes_are_outlines_that_fill_the_margin_box() -> None:
    moving = box([[10, 10, 20, 10], [40, 30, 20, 10]])
    clip = render([moving], STYLE)[0][..., 0]
    rows, columns = np.nonzero(clip[-1] == 255)
    first_rows, first_columns = np.nonzero(clip[0] == 255)
    # The boxes span 50 by 30 units, which are 48 by 28.8 pixels.
    assert (first_columns.min(), columns.max()) == pytest.approx((8, 56), abs=1)
    assert (first_rows.min(), rows.max()) == pytest.approx((17.6, 46.4), abs=1.5)
    assert columns.max() - columns.min() == pytest.approx(20 * 0.96, abs=2)
    # The inside is empty, but for the trail of the middle.
    assert clip[0, 20:24, 12].max() == 0
    assert clip[-1, 32, 32] == 110
    assert clip[0, 32, 32] == 0


def test_a_box_without_a_size_is_a_dot() -> None:
    clip = render([box([[5, 5, 0, 0]] * 3)], STYLE)[0]
    assert middle(clip[0], 0) == pytest.approx((32, 32))
