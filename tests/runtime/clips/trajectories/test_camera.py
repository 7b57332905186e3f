"""Cameras: read from files, refused in words, and where they stand."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from magvit_runtime.clips.trajectories import Camera, Cameras, read_camera
from magvit_runtime.clips.trajectories.camera import trajectory_of, view_id
from magvit_runtime.errors import InputError


def test_toml_and_json_say_the_same(tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_text(
        'kind = "orthographic"\nposition = [4, -4.5, 3]\nlook_at = [0, 0, 0.5]\n'
        'field_of_view = 30\nup = "-y"\n'
    )
    fields = {"kind": "orthographic", "position": [4, -4.5, 3], "look_at": [0, 0, 0.5]}
    (tmp_path / "a.json").write_text(json.dumps(fields | {"field_of_view": 30, "up": "-y"}))
    expected = Camera("orthographic", (4.0, -4.5, 3.0), (0.0, 0.0, 0.5), 30.0, up="-y")
    assert read_camera(tmp_path / "a.toml") == read_camera(tmp_path / "a.json") == expected
    assert expected.stands_still


def test_a_camera_needs_no_field(tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_text("")
    camera = read_camera(tmp_path / "a.toml")
    assert camera == Camera()
    assert not camera.stands_still
    assert camera.fields() == {
        "kind": "pinhole",
        "field_of_view": 40.0,
        "azimuth": -60.0,
        "elevation": 30.0,
        "up": "z",
    }
    assert str(camera) == (
        "pinhole, field of view 40°, z up, from azimuth -60° and elevation 30°, framing each "
        "trajectory"
    )


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("field_of_view = 0", "field_of_view of the camera is out of range: found 0"),
        ("field_of_view = 180", "found 180.0, expected degrees, 0.1 to 179"),
        ("field_of_view = -40", "found -40.0"),
        ("field_of_view = nan", "found nan"),
        ("field_of_view = 'wide'", "Expected `float`, got `str` - at `$.field_of_view`"),
        ("elevation = 91", "elevation of the camera is out of range: found 91.0"),
        ("azimuth = inf", "azimuth of the camera is out of range: found inf"),
        ("position = [1, 2, 3]", "has a position and no look_at. Fix: give it a look_at too"),
        ("look_at = [1, 2, 3]", "has a look_at and no position. Fix: give it a position too"),
        ("position = [1, 2]\nlook_at = [0, 0, 0]", "Expected `array` of length 3, got 2"),
        ("position = [1, nan, 2]\nlook_at = [0, 0, 0]", "position of the camera isn't finite"),
        ("position = [1, 2, 3]\nlook_at = [1, 2, 3]", "looks at the place where it stands"),
        (
            "position = [1, 2, 3]\nlook_at = [0, 0, 0]\nazimuth = 10",
            "has a position, and angles that would say another",
        ),
        ("fov = 40", "Object contains unknown field `fov`, expected any of kind, position"),
        ("kind = 'fisheye'", "Invalid enum value 'fisheye'"),
        ("up = 'w'", "Invalid enum value 'w'"),
        ("up = ", "a.toml holds no camera"),
    ],
)
def test_what_is_wrong_is_said_with_the_file(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "a.toml"
    path.write_text(text)
    with pytest.raises(InputError) as error:
        read_camera(path)
    assert str(error.value).startswith(str(path))
    assert words in str(error.value)


def test_files_that_hold_no_camera(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"a\.yaml is of an unknown kind: expected \.toml or"):
        read_camera(tmp_path / "a.yaml")
    with pytest.raises(InputError, match=r"a\.toml can't be read: found No such file"):
        read_camera(tmp_path / "a.toml")
    (tmp_path / "b.json").write_bytes(b"\xff\xfe{")
    with pytest.raises(InputError, match=r"b\.json holds no camera"):
        read_camera(tmp_path / "b.json")
    (tmp_path / "c.toml").write_bytes(b"up = '\xff'")
    with pytest.raises(InputError, match=r"c\.toml holds no camera"):
        read_camera(tmp_path / "c.toml")


@pytest.mark.parametrize("views", [0, -1, 361])
def test_views_that_cant_be(views: int) -> None:
    with pytest.raises(
        InputError, match=f"views is out of range: found {views}, expected 1 to 360"
    ):
        Cameras(views=views)


def test_names_of_views_lead_back_to_the_trajectory() -> None:
    assert [view_id("a@1", view, 3) for view in range(3)] == ["a@1@0", "a@1@1", "a@1@2"]
    assert trajectory_of("a@1@2", 3) == "a@1"
    assert view_id("a@1", 0, 1) == trajectory_of("a@1", 1) == "a@1"
