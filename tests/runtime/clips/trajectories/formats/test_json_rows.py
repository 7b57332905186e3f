"""JSON files: rows or whole trajectories, in an array, a line each, or by id."""

from __future__ import annotations

import contextlib
import json
import tempfile
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from magvit_runtime.clips.trajectories import ReadReport, Trajectory, read_trajectories
from magvit_runtime.errors import TrajectoryError

A = {"id": "a", "x": [0, 1.5], "y": [2, 3], "label": "u"}
B = {"id": "b", "positions": [[4, 5], [6, 7], [8, 9]], "t": [0, 1, 3], "label": "v"}
ROWS = [
    {"id": name, "x": x, "y": y, "t": t, "label": label}
    for name, x, y, t, label in [
        ("a", 0, 2, 0, "u"),
        ("b", 4, 5, 0, "v"),
        ("a", 1.5, 3, 1, "u"),
        ("b", 6, 7, 1, "v"),
        ("b", 8, 9, 3, "v"),
    ]
]
COLUMNS = {name: [row[name] for row in ROWS] for name in ROWS[0]}

LISTS = {
    "id": ["a", "b"],
    "x": [[0, 1.5], [4, 6, 8]],
    "y": [[2, 3], [5, 7, 9]],
    "t": [[0, 1], [0, 1, 3]],
    "label": ["u", "v"],
}
POINTS = {
    "XY" if name == "x" else name: values for name, values in LISTS.items() if name != "y"
} | {"XY": [[[0, 2], [1.5, 3]], [[4, 5], [6, 7], [8, 9]]]}


def read(path: Path, text: str) -> tuple[list[Trajectory], ReadReport]:
    path.write_text(text, encoding="utf-8")
    report = ReadReport()
    return list(read_trajectories(path, report)), report


def by_id(*records: dict[str, Any]) -> dict[str, Any]:
    return {record["id"]: {key: record[key] for key in record if key != "id"} for record in records}


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("g.json", json.dumps([A, B])),
        ("g.json", json.dumps([A, B], indent=4)),
        ("g.json", json.dumps({"version": 2, "trajectories": [A, B]}, indent=1)),
        ("g.json", json.dumps({"data": by_id(A, B)})),
        ("g.json", json.dumps(by_id(A, B), indent=2)),
        ("g.jsonl", json.dumps(A) + "\n\n" + json.dumps(B)),
        ("g.ndjson", "".join(json.dumps(row) + "\r\n" for row in ROWS)),
        ("g.json", "".join(json.dumps(row) + "\n" for row in ROWS)),
        ("g.json", json.dumps(ROWS)),
        ("g.json", json.dumps(COLUMNS, indent=1)),
        ("g.json", json.dumps({k: dict(enumerate(v)) for k, v in COLUMNS.items()})),
        ("g.json", json.dumps({"columns": list(COLUMNS), "data": [[*r.values()] for r in ROWS]})),
        ("g.json", json.dumps([{"ID": r["id"], "X": r["x"], "y": str(r["y"]), "frame": r["t"],
                                "class": r["label"]} for r in ROWS])),
        ("g.json", json.dumps([A | {"t": None}, B | {"positions": [
            {"x": x, "y": y, "t": t} for (x, y), t in zip([[4, 5], [6, 7], [8, 9]], [0, 1, 3],
                                                           strict=True)], "t": None}])),
        ("g.json", json.dumps(LISTS)),
        ("g.json", json.dumps({k: dict(enumerate(v)) for k, v in LISTS.items()})),
        ("g.json", json.dumps({k: dict(enumerate(v)) for k, v in POINTS.items()})),
        ("g.json", json.dumps({"data": POINTS})),
        ("g.json", json.dumps({"columns": list(POINTS), "index": [0, 1],
                               "data": list(zip(*POINTS.values(), strict=True))})),
    ],
    ids=[
        "array of trajectories",
        "indented array",
        "in a member",
        "by id in a member",
        "by id",
        "a trajectory a line",
        "a row a line",
        "lines in a .json",
        "array of rows",
        "columns",
        "pandas' columns",
        "pandas' split",
        "other names, text for numbers",
        "points as objects",
        "columns of lists",
        "pandas' columns of lists",
        "pandas' column of points",
        "a column of points in a member",
        "pandas' split with points",
    ],
)  # fmt: skip
def test_one_data_set_in_every_form(tmp_path: Path, name: str, text: str) -> None:
    (a, b), report = read(tmp_path / name, text)
    assert (a.id, a.label, a.t.tolist()) == ("a", "u", [0, 1])
    assert a.xy.tolist() == [[0, 2], [1.5, 3]]
    assert (b.id, b.label, b.t.tolist()) == ("b", "v", [0, 1, 3])
    assert b.xy.tolist() == [[4, 5], [6, 7], [8, 9]]
    assert not report.problems


def test_bare_lists_of_points_are_numbered(tmp_path: Path) -> None:
    read_ones, _ = read(tmp_path / "g.json", "[[[0,1],[2,3]],[[4,5],[6,7]]]")
    assert [(item.id, item.xy.tolist()) for item in read_ones] == [
        ("0", [[0, 1], [2, 3]]),
        ("1", [[4, 5], [6, 7]]),
    ]


def test_other_members_are_left_alone(tmp_path: Path) -> None:
    """Also those that could hold trajectories."""
    (a,), _ = read(tmp_path / "g.json", json.dumps(A | {"data": [1, 2], "rows": [A], "class": 3}))
    assert (a.id, a.label, len(a.t)) == ("a", "u", 2)


def test_windows_1252_is_reported(tmp_path: Path) -> None:
    path = tmp_path / "g.json"
    path.write_bytes('[{"id": "é", "x": [0, 1], "y": [0, 1]}]'.encode("cp1252"))
    report = ReadReport()
    (trajectory,) = read_trajectories(path, report)
    assert trajectory.id == "é"
    assert report.counts == {("repaired", "encoding"): 1}


def test_one_bad_trajectory_costs_no_other(tmp_path: Path) -> None:
    records = [
        {"id": "flat", "x": 1, "y": 2},
        A,
        A | {"id": "short", "y": [1]},
        A | {"id": None},
        A,
        A | {"id": "none", "x": [], "y": []},
        A | {"id": "holes", "x": [0, None, 2, "NaN", 4], "y": [0, 1, 2, 3, 4]},
        {"id": "axes", "positions": [[0, 1, 9, 9], [1], [2, 3, 9, 9], [4, 5, 9, 9]]},
        B,
    ]
    trajectories, report = read(tmp_path / "g.json", json.dumps(records))
    assert [(item.id, item.t.tolist()) for item in trajectories] == [
        ("a", [0, 1]),
        ("holes", [0, 2, 4]),
        ("axes", [0, 2, 3]),
        ("b", [0, 1, 3]),
    ]
    assert [(found.row, found.problem, found.action) for found in report.problems] == [
        (1, "bad_line", "refused"),
        (3, "mixed_lengths", "refused"),
        (4, "missing_id", "refused"),
        (5, "repeated_id", "refused"),
        (6, "too_few_points", "refused"),
        (7, "not_a_number", "dropped"),
        (7, "not_finite", "dropped"),
        (8, "further_axes", "repaired"),
        (8, "not_a_number", "dropped"),
    ]


def test_a_damaged_line_costs_only_itself(tmp_path: Path) -> None:
    lines = [json.dumps(row) for row in ROWS]
    lines[2:2] = ['{"id": "a", "x": ', "[1, 2]", "7", "[" * 100_000]
    trajectories, report = read(tmp_path / "g.jsonl", "\n".join(lines))
    assert [len(item.t) for item in trajectories] == [2, 3]
    assert [found.row for found in report.problems] == [3, 4, 5, 6]
    assert {found.problem for found in report.problems} == {"bad_line"}


def test_times_keep_all_their_digits(tmp_path: Path) -> None:
    text = (
        '[{"id": 1, "x": [0, 1], "y": [0, 1], "t": [1700000000.000000001, 1700000000.000000004]}]'
    )
    (trajectory,), _ = read(tmp_path / "g.json", text)
    assert trajectory.t.tolist() == pytest.approx([0, 3e-9], rel=1e-6)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "is empty"),
        (" \n", "is empty"),
        ("[]", "is empty: it holds no trajectories"),
        ("[ ]\n", "is empty: it holds no trajectories"),
        ("7", "holds neither rows nor trajectories: found 7"),
        ("[1, 2]", "holds neither rows nor trajectories: found 1"),
        ("{}", "is empty: it holds no trajectories"),
        ('[{"id": 1, "px": 2}]', "has no column x, y: found 'id', 'px'"),
        ('{"id": [1, 2], "x": [1], "y": [2]}', "columns of different lengths"),
        ('[{"id": 1, "x": [1, 2], "y": [1, 2]}', "element 1: the array isn't closed"),
        ('[{"id": 1, "x": [1, 2], "y": [1, 2]}, {"id', "element 2: "),
        ('[{"id": 1, "x": [1, 2], "y": [1, 2]} {}]', "element 2: expected a comma"),
        ('[{"id": 1, "x": [1, 2], "y": [1, 2]}] []', "more follows the array of 1 elements"),
        ('{"id": 1, "x": [1, 2],\n "y": [1, 2]', "can't be read as JSON"),
        ("[" * 100_000, "element 1: "),
        ("{'id': 1}", "can't be read as JSON"),
    ],
)
def test_what_is_no_file_of_trajectories(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(TrajectoryError, match=words) as caught:
        read(tmp_path / "g.json", text)
    assert str(caught.value).startswith(str(tmp_path))


json_values = st.recursive(
    st.one_of(
        st.none(), st.booleans(), st.integers(), st.floats(), st.sampled_from(["", "1", "a"])
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.dictionaries(
            st.sampled_from(["id", "x", "y", "t", "label", "xy", "points", "data", "columns", "a"]),
            inner,
            max_size=5,
        ),
    ),
    max_leaves=30,
)


@settings(max_examples=400, deadline=None, derandomize=True, database=None)
@given(st.lists(json_values, max_size=3), st.sampled_from([0, 1, 2]))
def test_any_json_gives_trajectories_or_our_error(values: list[Any], form: int) -> None:
    rows = {"id": [1, 1, 2], "x": [1, 2], "y": [3, 4]}
    text = [
        json.dumps(values),
        "\n".join(map(json.dumps, values)),
        json.dumps(rows | dict(zip(["id", "x", "data"], values, strict=False))),
    ][form]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "g.json"
        path.write_text(text)
        with contextlib.suppress(TrajectoryError):
            for trajectory in read_trajectories(path, ReadReport()):
                assert len(trajectory.t) >= 2


@pytest.mark.parametrize("is_array", [True, False])
def test_arrays_and_lines_are_streamed(tmp_path: Path, is_array: bool) -> None:
    path = tmp_path / ("g.json" if is_array else "g.jsonl")
    with path.open("w") as file:
        file.write("[" * is_array)
        for number in range(4000):
            record = {"id": number, "x": list(range(200)), "y": [number] * 200, "note": "-" * 3000}
            file.write((",\n" if is_array and number else "") + json.dumps(record))
            file.write("\n" * (not is_array))
        file.write("]" * is_array)
    assert path.stat().st_size > 15e6
    tracemalloc.start()
    count = sum(len(item.t) for item in read_trajectories(path, ReadReport()))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert count == 4000 * 200
    assert peak < 6e6
