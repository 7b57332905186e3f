"""Points, points in space and boxes: by the names of columns, in every format."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from magvit_runtime.clips.trajectories import ReadReport, Trajectory, read_trajectories
from magvit_runtime.errors import TrajectoryError

XYZ = [[0.0, 1.0, 2.0], [3.0, 4.0, 5.5], [6.0, 7.0, -8.0]]
# Middle, width and height of the same boxes that follow in other forms.
BOXES = [[5.0, 10.0, 4.0, 6.0], [6.0, 12.0, 4.0, 8.0]]
CORNERS = [[3.0, 7.0, 4.0, 6.0], [4.0, 8.0, 4.0, 8.0]]
TWO_CORNERS = [[3.0, 7.0, 7.0, 13.0], [4.0, 8.0, 8.0, 16.0]]


def read(path: Path, **options: Any) -> tuple[list[Trajectory], ReadReport]:
    report = ReadReport()
    return list(read_trajectories(path, report, **options)), report


def numbers(trajectory: Trajectory) -> list[list[float]]:
    """x, y and what follows them, of each point."""
    further = [trajectory.z[:, None]] if trajectory.z is not None else []
    further += [trajectory.size] if trajectory.size is not None else []
    found: list[list[float]] = np.concatenate([trajectory.xy, *further], axis=1).tolist()
    return found


def write_csv(path: Path, names: str, rows: list[list[float]]) -> Path:
    lines = [",".join(["id", names]), *(",".join(map(str, ["a", *row])) for row in rows)]
    path.write_text("\n".join(lines) + "\n")
    return path


def write_parquet(path: Path, columns: dict[str, Any]) -> Path:
    pa = pytest.importorskip("pyarrow", reason="Parquet needs pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    parquet.write_table(pa.table(columns), path)
    return path


def files_in_space(folder: Path) -> dict[str, Path]:
    x, y, z = np.array(XYZ).T
    columns = {"id": ["a"] * 3, "x": x, "y": y, "z": z}
    lists = {"id": ["a"], "x": [x], "y": [y], "z": [z]}
    rows = [{"id": "a", "x": x, "y": y, "z": z} for x, y, z in XYZ]
    points = [{"x": x, "y": y, "z": z} for x, y, z in XYZ]
    texts = {
        "rows.json": json.dumps(rows),
        "lines.jsonl": "\n".join(map(json.dumps, rows)),
        "positions.json": json.dumps([{"id": "a", "class": "u", "positions": XYZ, "noise": 0.1}]),
        "points.json": json.dumps([{"id": "a", "points": points}]),
        "lists.json": json.dumps(
            {"id": "a", **{"xyz"[i]: list(v) for i, v in enumerate([x, y, z])}}
        ),
        "by_id.json": json.dumps({"a": XYZ}),
    }
    for name, text in texts.items():
        (folder / name).write_text(text)
    xyz = np.array([XYZ, XYZ])
    ragged = np.empty(2, object)
    ragged[:] = [np.array(XYZ), np.array(XYZ[:2])]
    arrays: dict[str, dict[str, Any]] = {
        "columns.npz": columns,
        "xyz.npz": {"xyz": xyz, "id": np.array(["a", "b"])},
        "positions.npz": {"positions": xyz.astype(np.float32), "id": np.array(["a", "b"])},
        "ragged.npz": {"positions": ragged, "id": np.array(["a", "b"])},
        "by_axis.npz": {"id": np.array(["a"]), "x": x[None], "y": y[None], "z": z[None]},
    }
    for name, content in arrays.items():
        np.savez(folder / name, **content)
    write_csv(folder / "table.csv", "x,y,z", XYZ)
    (folder / "mixed.csv").write_text(
        "z,id,y,x\n2,a,1,0\n9,b,9,9\n5.5,a,4,3\n8,b,8,8\n-8,a,7,6\n"  # By frame.
    )
    write_parquet(folder / "columns.parquet", columns)
    write_parquet(folder / "lists.parquet", lists)
    write_parquet(folder / "positions.parquet", {"id": ["a"], "positions": [XYZ]})
    return {path.name: path for path in folder.iterdir()}


def test_three_coordinates_are_read_from_every_format(tmp_path: Path) -> None:
    files = files_in_space(tmp_path)
    assert len(files) == 16
    for name, path in files.items():
        trajectories, report = read(path)
        assert numbers(trajectories[0]) == XYZ, name
        assert trajectories[0].id == "a", name
        assert report.kinds == {"space": len(trajectories)}, name
        assert not report.counts, name


def test_z_is_left_out_where_points_are_asked_for(tmp_path: Path) -> None:
    for path in files_in_space(tmp_path).values():
        if path.name == "xyz.npz":  # It says itself that there are three.
            continue
        trajectories, report = read(path, positions="xy")
        assert numbers(trajectories[0]) == [row[:2] for row in XYZ], path
        assert report.kinds == {"point": len(trajectories)}


@pytest.mark.parametrize(
    ("names", "rows", "anchor"),
    [
        ("x,y,w,h", CORNERS, "top left"),
        ("X,Y,Width,Height", CORNERS, "top left"),
        ("bb_left,bb_top,bb_width,bb_height", CORNERS, "top left"),
        ("left,top,w,h", CORNERS, "top left"),
        ("cx,cy,w,h", BOXES, "middle"),
        ("x_center,y_center,width,height", BOXES, "middle"),
        ("x1,y1,x2,y2", TWO_CORNERS, "two corners"),
        ("xmin,ymin,xmax,ymax", TWO_CORNERS, "two corners"),
        ("left,top,right,bottom", TWO_CORNERS, "two corners"),
        # A picture's size beside two corners, as TensorFlow's tables have it.
        (
            "xmin,ymin,xmax,ymax,width,height",
            [[*row, 640, 480] for row in TWO_CORNERS],
            "two corners",
        ),
    ],
)
def test_boxes_by_the_names_of_their_columns(
    tmp_path: Path, names: str, rows: list[list[float]], anchor: str
) -> None:
    columns = dict(zip(names.split(","), zip(*rows, strict=True), strict=True))
    content = {"id": "a"} | {name: list(column) for name, column in columns.items()}
    (tmp_path / "lists.json").write_text(json.dumps([content]))
    np.savez(
        tmp_path / "a.npz", id=np.array(["a", "a"]), **{k: np.array(v) for k, v in columns.items()}
    )
    files = [
        write_csv(tmp_path / "a.csv", names, rows),
        tmp_path / "lists.json",
        tmp_path / "a.npz",
        write_parquet(tmp_path / "a.parquet", {"id": ["a", "a"], **columns}),
    ]
    for path in files:
        (trajectory,), report = read(path)
        assert numbers(trajectory) == BOXES, path
        assert (report.boxes_from, dict(report.kinds)) == (anchor, {"box": 1}), path


def test_what_x_and_y_of_boxes_are_can_be_said(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "a.csv", "x,y,w,h", BOXES)
    (trajectory,), report = read(path, positions="center-boxes")
    assert numbers(trajectory) == BOXES
    assert report.boxes_from == "middle"
    (trajectory,), _ = read(path, positions="xy")
    assert numbers(trajectory) == [row[:2] for row in BOXES]


@pytest.mark.parametrize(
    ("names", "columns", "positions", "expected"),
    [
        ("x,y,z,w,h", 5, "xyz", [[0, 1, 2], [5, 6, 7]]),
        ("x,y,z,w,h", 5, "center-boxes", [[0, 1, 3, 4], [5, 6, 8, 9]]),
        ("x,y,x1,y1,x2,y2", 6, "xy", [[0, 1], [6, 7]]),
        ("x,y,x1,y1,x2,y2", 6, "corners", [[3, 4, 2, 2], [9, 10, 2, 2]]),
        ("left,top,w,h,x,y,z", 7, "corner-boxes", [[1, 2.5, 2, 3], [11.5, 13, 9, 10]]),
    ],
)
def test_two_kinds_of_positions_are_refused_until_one_is_chosen(
    tmp_path: Path, names: str, columns: int, positions: str, expected: list[list[float]]
) -> None:
    rows = [[float(columns * row + place) for place in range(columns)] for row in range(2)]
    path = write_csv(tmp_path / "a.csv", names, rows)
    with pytest.raises(TrajectoryError) as error:
        read(path)
    assert "says in more than one way where things are: found (" in str(error.value)
    assert "--positions xy, xyz, corner-boxes" in str(error.value)
    (trajectory,), _ = read(path, positions=positions)
    assert numbers(trajectory) == expected


def test_boxes_as_lists_of_four_numbers_need_to_be_explained(tmp_path: Path) -> None:
    for name, content in {
        "a.json": json.dumps([{"id": "a", "boxes": CORNERS}]),
        "b.json": json.dumps([{"id": "a", "bbox": CORNERS}]),
    }.items():
        (tmp_path / name).write_text(content)
        with pytest.raises(
            TrajectoryError, match="may be two corners, or one corner or the middle"
        ):
            read(tmp_path / name)
        (trajectory,), _ = read(tmp_path / name, positions="corner-boxes")
        assert numbers(trajectory) == BOXES
    np.savez(tmp_path / "a.npz", boxes=np.array([TWO_CORNERS]))
    with pytest.raises(TrajectoryError, match="array boxes has the wrong shape"):
        read(tmp_path / "a.npz")
    (trajectory,), _ = read(tmp_path / "a.npz", positions="corners")
    assert numbers(trajectory) == BOXES


def test_rows_of_json_may_hold_their_position_as_a_list(tmp_path: Path) -> None:
    """As detectors write a box a frame, by COCO's custom."""
    rows = [{"id": 7, "frame": i, "bbox": box} for i, box in enumerate(CORNERS)]
    path = tmp_path / "a.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    with pytest.raises(TrajectoryError, match="may be two corners, or one corner or the middle"):
        read(path)
    (trajectory,), _ = read(path, positions="corner-boxes")
    assert numbers(trajectory) == BOXES
    assert trajectory.t.tolist() == [0, 1]
    path.write_text(json.dumps([{"id": "a", "position": point} for point in XYZ]))
    (trajectory,), _ = read(path)
    assert numbers(trajectory) == XYZ
    short = [*XYZ, [1.0], "far", XYZ[0]]
    path.write_text(json.dumps([{"id": "a", "position": point} for point in short]))
    (trajectory,), report = read(path)
    assert numbers(trajectory) == [*XYZ, XYZ[0]]
    assert [(found.row, found.problem) for found in report.problems] == [
        (4, "not_a_number"),
        (5, "not_a_number"),
    ]


def test_bad_rows_are_named_with_row_and_column(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "a.csv", "x,y,z", XYZ)
    path.write_text(path.read_text() + "a,9,9,nan\na,9,9,\na,9,9,far\na,1,2,3\n")
    (trajectory,), report = read(path)
    assert trajectory.t.tolist() == [0, 1, 2, 6]
    assert [(found.row, found.problem, found.message) for found in report.problems] == [
        (5, "not_finite", "z is nan, expected a finite number within ±1e+300"),
        (6, "not_a_number", "z is '', expected a number"),
        (7, "not_a_number", "z is 'far', expected a number"),
    ]
    path = write_csv(tmp_path / "b.csv", "x1,y1,x2,y2", [*TWO_CORNERS, [9, 0, 8, 1]])
    (trajectory,), report = read(path)
    assert len(trajectory.t) == 2
    assert [(found.row, found.problem, found.message) for found in report.problems] == [
        (4, "bad_box", "x2 - x1 is -1, expected a size from 0 on, of a box within ±1e+300"),
    ]
    path = write_csv(tmp_path / "c.csv", "x,y,w,h", [*CORNERS, [0, 0, 1, -2], [1e300, 0, 1e300, 0]])
    (trajectory,), report = read(path)
    assert len(trajectory.t) == 2
    assert [found.row for found in report.problems] == [4, 5]
    assert (
        report.problems[0].message == "h is -2, expected a size from 0 on, of a box within ±1e+300"
    )


def test_columns_of_no_position_are_left_alone(tmp_path: Path) -> None:
    """A width without a height, an orientation, or half of a corner makes no box."""
    for names in ("x,y,w", "x,y,x1,y2", "x,y,vz,right"):
        rows = [[*row, 7, 8][: names.count(",") + 1] for row in ([0, 1], [2, 3])]
        (trajectory,), report = read(write_csv(tmp_path / "a.csv", names, rows))
        assert numbers(trajectory) == [[0, 1], [2, 3]]
        assert report.boxes_from is None


def test_columns_that_are_missing_are_named(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "a.csv", "x,y,w", [[0, 1, 2], [2, 3, 4]])
    with pytest.raises(TrajectoryError, match="has no column z: found"):
        read(path, positions="xyz")
    with pytest.raises(TrajectoryError, match="has no column h: found"):
        read(path, positions="corner-boxes")
    (tmp_path / "a.json").write_text(json.dumps([{"id": 1, "x": [0, 1], "y": [0, 1]}]))
    with pytest.raises(
        TrajectoryError, match="no usable trajectory: row 1: it has no x, y, z, but id"
    ):
        read(tmp_path / "a.json", positions="xyz")
    half = [{"id": 1, "x1": [0, 1], "y1": [0, 1]}, {"id": 2, "x": [0, 1], "y": [0, 1]}]
    (tmp_path / "b.json").write_text(json.dumps(half))
    (trajectory,), report = read(tmp_path / "b.json")
    assert (trajectory.id, report.counts) == ("2", {("refused", "bad_line"): 1})
    with pytest.raises(TrajectoryError, match="positions are unknown: found sphere"):
        read(path, positions="sphere")


def test_points_of_more_numbers_are_read_as_before(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(json.dumps([{"id": "a", "positions": CORNERS}]))
    (trajectory,), report = read(tmp_path / "a.json")
    assert numbers(trajectory) == [row[:2] for row in CORNERS]
    assert report.counts == {("repaired", "further_axes"): 1}


def test_a_table_without_a_header_takes_z_and_boxes_by_name(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("1 a 0 1 2\n2 a 3 4 5.5\n3 a 6 7 -8\n")
    (trajectory,), _ = read(path, columns=["frame", "id", "x", "y", "z"])
    assert numbers(trajectory) == XYZ
    (trajectory,), _ = read(path, columns=["frame", "id", "x", "y", "height"])
    assert trajectory.kind == "point"
    # As MOT's results are, whose last columns say nothing.
    path.write_text("1,7,3,7,4,6,0.9,-1,-1,-1\n2,7,4,8,4,8,0.9,-1,-1,-1\n")
    names = "frame,id,bb_left,bb_top,bb_width,bb_height,conf,a,b,c"
    (trajectory,), _ = read(path, columns=names.split(","))
    assert numbers(trajectory) == BOXES


@pytest.mark.parametrize(
    ("further", "message"),
    [
        ({"z": np.zeros(2)}, "has the wrong z: found float64 [2], expected float64 [3]"),
        ({"z": np.array([0, np.nan, 0])}, "holds a z that can't be used"),
        ({"size": np.full((3, 2), -1.0)}, "holds a size that can't be used"),
        ({"z": np.zeros(3), "size": np.ones((3, 2))}, "is a point in space and a box"),
    ],
)
def test_a_trajectory_keeps_its_promises(further: dict[str, Any], message: str) -> None:
    with pytest.raises(TrajectoryError) as error:
        Trajectory("a", np.zeros((3, 2)), np.arange(3.0), **further)
    assert message in str(error.value)
