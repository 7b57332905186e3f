"""npz files: columns, or stacked trajectories."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from magvit_runtime.clips.trajectories import ReadReport, read_trajectories
from magvit_runtime.errors import TrajectoryError


def write(path: Path, **arrays: Any) -> Path:
    np.savez(path, **arrays)
    return path


def test_columns_read_as_in_csv(tmp_path: Path) -> None:
    path = write(
        tmp_path / "gestures.npz",
        id=np.array(["a", "a", "b", "b"]),
        x=np.arange(4),
        y=np.array([0.5, 1.5, 2.5, 3.5]),
        t=np.array([0, 2, 0, 3]),
        label=np.array([1, 1, 2, 2], np.uint8),
    )
    first, second = read_trajectories(path, ReadReport())
    assert (first.id, first.label, first.first_row) == ("a", "1", 1)
    assert (second.id, second.label, second.first_row) == ("b", "2", 3)
    assert second.xy.tolist() == [[2, 2.5], [3, 3.5]]
    assert second.t.tolist() == [0, 3]


@pytest.mark.parametrize(
    ("t", "times"),
    [(None, [0, 1, 2]), ([0, 2, 5], [0, 2, 5]), ([[0, 1, 2], [0, 2, 5]], [0, 2, 5])],
)
def test_stacked_trajectories(tmp_path: Path, t: Any, times: list[float]) -> None:
    xy = np.random.default_rng(0).random((2, 3, 2), np.float32)
    extra = {} if t is None else {"t": np.array(t)}
    path = write(tmp_path / "gestures.npz", xy=xy, label=np.array(["up", "down"]), **extra)
    _, second = read_trajectories(path, ReadReport())
    assert (second.id, second.label, second.first_row) == ("1", "down", 2)
    np.testing.assert_array_equal(second.xy, xy[1].astype(np.float64))
    assert second.t.tolist() == times


def test_stacked_trajectories_with_equal_ids_are_not_merged(tmp_path: Path) -> None:
    report = ReadReport()
    path = write(tmp_path / "gestures.npz", xy=np.ones((4, 3, 2)), id=np.array(["a", "a", "", "b"]))
    first, last = read_trajectories(path, report)
    assert (first.id, len(first.t), last.id) == ("a", 3, "b")
    assert [(found.row, found.problem, found.action) for found in report.problems] == [
        (2, "repeated_id", "refused"),
        (3, "missing_id", "refused"),
    ]


def test_a_nan_point_of_a_stacked_trajectory_leaves_a_gap_in_time(tmp_path: Path) -> None:
    xy = np.zeros((1, 4, 2))
    xy[0, 1, 0] = np.nan
    report = ReadReport()
    (trajectory,) = read_trajectories(write(tmp_path / "gestures.npz", xy=xy), report)
    assert trajectory.t.tolist() == [0, 2, 3]
    assert report.problems[0].problem == "not_finite"


def ragged(values: list[Any], of: Any = np.array) -> np.ndarray[Any, Any]:
    array = np.empty(len(values), object)
    for place, value in enumerate(values):
        array[place] = of(value)
    return array


PATHS = [[[0, 0.5], [1, 1.5], [2, 2.5]], [[4, 0], [5, 1]]]


@pytest.mark.parametrize(
    "arrays",
    [
        {"xy": ragged(PATHS)},
        {"xy": ragged(PATHS, list)},
        {"xy": ragged(PATHS, lambda path: [tuple(point) for point in path])},
        {"xy": ragged(PATHS, lambda path: np.array(path, ">f4"))},
        {"xy": ragged(PATHS, lambda path: np.array(path, order="F"))},
        {"xy": ragged(PATHS, lambda path: np.array(path, object))},
        {"xy": ragged(PATHS, lambda path: list(map(np.array, path)))},
        {
            "x": ragged([[x for x, _ in path] for path in PATHS]),
            "y": ragged([[y for _, y in path] for path in PATHS], list),
        },
    ],
    ids=["arrays", "lists", "tuples", "big end first", "by columns", "objects", "mixed", "x and y"],
)
def test_trajectories_of_different_lengths(
    tmp_path: Path, arrays: dict[str, np.ndarray[Any, Any]]
) -> None:
    times = ragged([[0, 2, 3], [0, 3]])
    labels = {"id": np.array(["a", "b"]), "label": np.array([True, False]), "t": times}
    first, last = read_trajectories(write(tmp_path / "a.npz", **arrays, **labels), ReadReport())
    assert [first.xy.tolist(), last.xy.tolist()] == PATHS
    assert [first.t.tolist(), last.t.tolist()] == [[0, 2, 3], [0, 3]]
    assert [(item.id, item.label, item.first_row) for item in (first, last)] == [
        ("a", "True", 1),
        ("b", "False", 2),
    ]


def test_trajectories_of_one_length_as_objects_or_by_axis(tmp_path: Path) -> None:
    paths = np.arange(12.0).reshape(2, 3, 2)
    files = (
        write(tmp_path / "objects.npz", xy=paths.astype(object)),
        write(tmp_path / "axes.npz", id=np.arange(2), x=paths[..., 0], y=paths[..., 1]),
    )
    for path in files:
        found = read_trajectories(path, ReadReport())
        assert [(item.id, item.xy.tolist()) for item in found] == [
            (str(place), item) for place, item in enumerate(paths.tolist())
        ]


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"xy": np.zeros((2, 3))}, r"xy has the wrong shape: found \[2, 3\]"),
        ({"xy": np.zeros((2, 3, 3))}, r"xy has the wrong shape: found \[2, 3, 3\]"),
        ({"xy": np.zeros((2, 1, 2))}, r"xy has the wrong shape: found \[2, 1, 2\]"),
        ({"xy": np.zeros((0, 3, 2))}, "is empty: it holds no rows"),
        ({"xy": np.zeros((2, 3, 2), complex)}, "xy has a type .* found complex128"),
        ({"xy": np.zeros((2, 3, 2)), "label": np.zeros(3)}, r"label .* expected \[2\]"),
        ({"xy": np.zeros((2, 3, 2)), "t": np.zeros(2)}, r"t .* expected \[2, 3\] or \[3\]"),
        ({"id": np.zeros(2), "x": np.zeros(2)}, "no column y"),
        ({"id": np.zeros(2), "x": np.zeros(2), "y": np.zeros(3)}, r"y .* expected \[2\]"),
        ({"xy": np.array([[None]], dtype=object)}, "row 1: x is '', expected a number"),
        ({"xy": np.array([{1: 2}], dtype=object)}, "can't be read safely"),
        ({"xy": ragged([[[0, 0]], [[1, 1]]]), "id": np.zeros(3)}, r"id .* expected \[2\]"),
        (
            {"xy": ragged([[[0, 0]], []])},
            "row 1: it has fewer than two usable rows|holds no usable",
        ),
    ],
)
def test_unusable_arrays_are_named(tmp_path: Path, arrays: dict[str, Any], words: str) -> None:
    with pytest.raises(TrajectoryError, match=words):
        read_trajectories(write(tmp_path / "gestures.npz", **arrays), ReadReport())


@pytest.mark.parametrize("kept", [0, 10, 400, -1])
def test_a_truncated_file_is_refused(tmp_path: Path, kept: int) -> None:
    path = write(tmp_path / "gestures.npz", xy=np.zeros((9, 9, 2)))
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(TrajectoryError, match="can't be read as npz"):
        read_trajectories(path, ReadReport())


def test_a_zip_member_that_is_no_array_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "gestures.npz"
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("xy.npy", b"not an array")
    with pytest.raises(TrajectoryError, match="the array xy has a type that can't be used"):
        read_trajectories(path, ReadReport())


class Hostile:
    """What its pickle calls when it is loaded."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


def test_columns_of_objects_are_read(tmp_path: Path) -> None:
    names = np.array(["a", "a", np.str_("b"), "b", None, float("nan")], object)
    path = write(
        tmp_path / "gestures.npz",
        id=names,
        label=np.array([1, 1, 2.0, np.float32(2), "x", b"y"], object),
        x=np.array([0, "1", 2.5, np.int64(3), 4, 5], object),
        y=np.arange(6),
    )
    report = ReadReport()
    first, second = read_trajectories(path, report)
    assert (first.id, first.label, first.xy[:, 0].tolist()) == ("a", "1", [0, 1])
    assert (second.id, second.label, second.xy[:, 0].tolist()) == ("b", "2", [2.5, 3])
    assert report.counts == {("dropped", "missing_id"): 2}


def test_objects_run_no_code(tmp_path: Path) -> None:
    marker = tmp_path / "ran"
    names = np.array(["a", Hostile(marker)], object)
    path = write(tmp_path / "gestures.npz", id=names, x=np.arange(2), y=np.arange(2))
    with pytest.raises(TrajectoryError, match="can't be read safely"):
        read_trajectories(path, ReadReport())
    assert not marker.exists()


@pytest.mark.parametrize("value", [["list"], {"a": 1}, 1j, np.arange(3), np.datetime64("2026")])
def test_objects_that_are_no_names_are_refused(tmp_path: Path, value: Any) -> None:
    names = np.empty(2, object)
    names[:] = ["a", value]
    path = write(tmp_path / "gestures.npz", id=names, x=np.arange(2), y=np.arange(2))
    with pytest.raises(TrajectoryError, match="can't be read safely"):
        read_trajectories(path, ReadReport())
