"""Parquet files, and what happens where pyarrow is missing."""

from __future__ import annotations

import datetime as dt
import os
import sys
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from magvit_runtime.clips.trajectories import ReadReport, read_trajectories
from magvit_runtime.errors import MissingPackageError, TrajectoryError

pa = pytest.importorskip("pyarrow", reason="Parquet needs pyarrow (the extra [data])")
pq = pytest.importorskip("pyarrow.parquet")


def write(path: Path, columns: dict[str, Any], **options: Any) -> Path:
    pq.write_table(pa.table(columns), path, **options)
    return path


def test_numbers_and_categories_as_ids_and_labels(tmp_path: Path) -> None:
    columns = {
        "label": pa.array(["up", "up", "down", "down"]).dictionary_encode(),
        "y": [0, 1, 2, 3],
        "x": pa.array([0, 0.5, 1, 1.5], pa.float32()),
        "id": [1, 1, 2, 2],
        "other": [[1], [2], [3], [4]],
    }
    path = write(tmp_path / "gestures.parquet", columns)
    first, second = read_trajectories(path, ReadReport())
    assert (first.id, first.label, first.first_row) == ("1", "up", 1)
    assert (second.id, second.label, second.first_row) == ("2", "down", 3)
    assert second.xy.tolist() == [[1, 2], [1.5, 3]]


XY = [[[0, 0.5], [1, 1.5], [2, 2.5]], [[4, 0], [5, 1]]]
X, Y = ([[point[axis] for point in path] for path in XY] for axis in (0, 1))
NUMBERS = pa.list_(pa.float32())
STAMPS = [
    [dt.datetime(2026, 1, 1, 0, 0, second) for second in path] for path in ([0, 2, 3], [1, 4])
]


@pytest.mark.parametrize(
    "columns",
    [
        {"x": X, "y": Y},
        {"X": pa.array(X, NUMBERS), "y": pa.array(Y, pa.large_list(pa.float64()))},
        {"xy": XY, "x": [1, 2], "note": [[1], [2]]},
        {"positions": pa.array(XY, pa.large_list(pa.list_(pa.float64(), 2)))},
        {"Points": pa.array([[{"x": x, "y": y} for x, y in path] for path in XY])},
    ],
    ids=["lists", "lists of other types", "pairs", "pairs of one length", "objects"],
)
@pytest.mark.parametrize("times", [[[0, 2, 3], [0, 3]], [[0, 2.0, 3], [0, 3]], STAMPS])
def test_a_row_may_be_a_whole_trajectory(
    tmp_path: Path, columns: dict[str, Any], times: Any
) -> None:
    more = {"id": [b"a", b"b"], "label": [True, False], "time": times}
    path = write(tmp_path / "paths.parquet", {**columns, **more})
    first, last = read_trajectories(path, ReadReport())
    assert [first.xy.tolist(), last.xy.tolist()] == XY
    assert [first.t.tolist(), last.t.tolist()] == [[0, 2, 3], [0, 3]]
    assert [(item.id, item.label, item.first_row) for item in (first, last)] == [
        ("a", "True", 1),
        ("b", "False", 2),
    ]


def test_rows_of_lists_that_cant_be_used_cost_only_themselves(tmp_path: Path) -> None:
    report = ReadReport()
    columns = {
        "id": ["a", None, "c", "d", "a"] * 30,
        "x": [[0, 1], [0, 1], None, [0, 1, 2], [5, 5]] * 30,
        "y": [[0, 1]] * 150,
    }
    (found,) = read_trajectories(write(tmp_path / "paths.parquet", columns), report)
    assert (found.id, found.xy.tolist()) == ("a", [[0, 0], [1, 1]])
    assert [(item.row, item.problem) for item in report.problems[:4]] == [
        (2, "missing_id"),
        (3, "bad_line"),
        (4, "mixed_lengths"),
        (5, "repeated_id"),
    ]


def test_a_file_with_a_name_that_isnt_text(tmp_path: Path) -> None:
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.parquet"))
    columns = {"id": [1, 1], "x": [0, 1], "y": [0, 1]}
    write(tmp_path / "plain.parquet", columns).rename(path)
    (found,) = read_trajectories(path, ReadReport())
    assert found.xy.tolist() == [[0, 0], [1, 1]]


def test_missing_values_drop_their_rows(tmp_path: Path) -> None:
    columns = {
        "id": ["a", "a", None, "a", "a"],
        "x": [0.0, None, 1.0, 1.0, 2.0],
        "y": [0.0, 1.0, 1.0, float("nan"), 2.0],
        "label": pa.nulls(5),
    }
    report = ReadReport()
    path = write(tmp_path / "gestures.parquet", columns)
    (trajectory,) = read_trajectories(path, report)
    assert trajectory.xy.tolist() == [[0, 0], [2, 2]]
    assert trajectory.label is None
    assert [
        (found.row, found.problem) for found in sorted(report.problems, key=lambda p: p.row)
    ] == [
        (2, "not_a_number"),
        (3, "missing_id"),
        (4, "not_finite"),
    ]


def test_a_trajectory_may_cross_batches_and_row_groups(tmp_path: Path) -> None:
    rows = 10_000
    columns = {"id": ["a"] * rows, "x": list(range(rows)), "y": [0] * rows}
    path = write(tmp_path / "gestures.parquet", columns, row_group_size=777)
    (trajectory,) = read_trajectories(path, ReadReport())
    assert trajectory.xy[:, 0].tolist() == list(range(rows))


def test_times_of_day_are_refused(tmp_path: Path) -> None:
    now = dt.time(12, 30)
    columns = {"id": ["a"] * 2, "x": [0, 1], "y": [0, 1], "t": [now, now]}
    with pytest.raises(TrajectoryError, match=r"column t .* found time64\[us\]"):
        read_trajectories(write(tmp_path / "gestures.parquet", columns), ReadReport())


@pytest.mark.parametrize(
    "kind",
    [
        pa.timestamp("s"),
        pa.timestamp("us", "Europe/Berlin"),
        pa.timestamp("ns", "UTC"),
        pa.date64(),
        pa.duration("ms"),
        pa.int64(),
        pa.uint16(),
        pa.decimal128(22, 3),
        pa.string(),
        pa.dictionary(pa.int8(), pa.timestamp("ns")),
    ],
    ids=str,
)
def test_times_of_every_type(tmp_path: Path, kind: Any) -> None:
    """As seconds, from the first where they are of the calendar."""
    seconds = [0, 86400, 259200]
    if "timestamp" in str(kind) or "date" in str(kind):
        t = pa.array([dt.datetime(2026, 1, 1 + day) for day in (0, 1, 3)]).cast(pa.timestamp("ns"))
        t = t.dictionary_encode() if "dictionary" in str(kind) else t.cast(kind)
    elif kind == pa.duration("ms"):
        t = pa.array([dt.timedelta(seconds=second) for second in seconds], kind)
    elif kind == pa.uint16():
        seconds = [0, 1, 3]
        t = pa.array(seconds, kind)
    else:
        t = pa.array(seconds, pa.int64()).cast(kind)
    columns = {"id": ["a"] * 3, "x": [0, 1, 2], "y": [0, 1, 2], "t": t}
    (trajectory,) = read_trajectories(write(tmp_path / "gestures.parquet", columns), ReadReport())
    assert trajectory.t.tolist() == seconds


@pytest.mark.parametrize(
    ("values", "names"),
    [
        *[
            (pa.array(["up", "up", "down", "down", None], kind), ["up", "down"])
            for kind in (
                pa.string(),
                pa.large_string(),
                pa.string_view(),
                pa.binary(),
                pa.large_binary(),
            )
        ],
        (pa.array(["up", "up", "down", "down", None]).dictionary_encode(), ["up", "down"]),
        (pa.array([1, 1, 2, 2, None], pa.float32()), ["1", "2"]),
        (pa.array([1, 1, 2, 2, None], pa.int8()), ["1", "2"]),
        (pa.array([1, 1, 2**64 - 1, 2**64 - 1, None], pa.uint64()), ["1", str(2**64 - 1)]),
        (pa.array([1, 1, Decimal("2.5"), Decimal("2.5"), None], pa.decimal128(5, 2)), ["1", "2.5"]),
        (pa.array([True, True, False, False, None]), ["True", "False"]),
    ],
    ids=lambda value: str(value.type) if isinstance(value, pa.Array) else "",
)
def test_ids_and_labels_of_every_type(tmp_path: Path, values: Any, names: list[str]) -> None:
    columns = {"id": values, "label": values, "x": [0, 1, 2, 3, 4], "y": [0, 1, 2, 3, 4]}
    report = ReadReport()
    read = read_trajectories(write(tmp_path / "gestures.parquet", columns), report)
    assert [(item.id, item.label) for item in read] == [(name, name) for name in names]
    assert [(found.row, found.problem) for found in report.problems] == [(5, "missing_id")]


def test_a_label_that_a_missing_one_made_a_float_is_the_integer(tmp_path: Path) -> None:
    columns = {
        "id": [3.0, 3.0, 4.0, 4.0],
        "label": [0.0, 0.0, float("nan"), float("nan")],
        "x": [0, 1, 2, 3],
        "y": [0, 1, 2, 3],
    }
    read = read_trajectories(write(tmp_path / "gestures.parquet", columns), ReadReport())
    assert [(item.id, item.label) for item in read] == [("3", "0"), ("4", None)]


def test_missing_columns_are_named(tmp_path: Path) -> None:
    path = write(tmp_path / "gestures.parquet", {"id": ["a"], "px": [0]})
    with pytest.raises(TrajectoryError, match="has no column x, y: found 'id', 'px'"):
        read_trajectories(path, ReadReport())


@pytest.mark.parametrize("kept", [0, 3, 200, -1])
def test_a_truncated_file_is_refused(tmp_path: Path, kept: int) -> None:
    path = write(tmp_path / "gestures.parquet", {"id": ["a"] * 2, "x": [0, 1], "y": [0, 1]})
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(TrajectoryError, match="can't be read as Parquet"):
        read_trajectories(path, ReadReport())


def test_a_missing_pyarrow_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path / "gestures.parquet", {"id": ["a"] * 2, "x": [0, 1], "y": [0, 1]})
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(MissingPackageError, match=r"pip install 'magvit-runtime\[data\]'"):
        read_trajectories(path, ReadReport())


def test_memory_stays_small_for_a_large_row_group(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    rows = 500_000
    columns = {
        "id": pa.array([str(row // 100) for row in range(rows)]),
        "x": rng.random(rows),
        "y": rng.random(rows),
    }
    path = write(tmp_path / "gestures.parquet", columns, row_group_size=rows, use_dictionary=False)
    assert path.stat().st_size > 8e6
    default = pa.default_memory_pool()
    counted = pa.proxy_memory_pool(default)
    pa.set_memory_pool(counted)
    try:
        count = sum(1 for _ in read_trajectories(path, ReadReport()))
    finally:
        pa.set_memory_pool(default)
    assert count == rows // 100
    assert 0 < counted.max_memory() < 8e6
