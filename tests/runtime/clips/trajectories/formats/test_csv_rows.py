"""CSV files as people really have them."""

from __future__ import annotations

import contextlib
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from magvit_runtime.clips.trajectories import ReadReport, read_trajectories
from magvit_runtime.errors import TrajectoryError

GOOD = "a,0,0\na,1,1\n"


def test_columns_in_any_order_with_extra_ones(write_csv: Callable[[str], Path]) -> None:
    path = write_csv("note,y,label,t,x,id\n-,2,wave,0.5,1,a\n-,4,wave,1.5,3,a\n")
    (trajectory,) = read_trajectories(path, ReadReport())
    assert trajectory.id == "a"
    assert trajectory.label == "wave"
    assert trajectory.xy.tolist() == [[1, 2], [3, 4]]
    assert trajectory.t.tolist() == [0.5, 1.5]
    assert trajectory.first_row == 2


def test_time_is_the_sample_index_and_label_none_without_those_columns(
    write_csv: Callable[[str], Path],
) -> None:
    (trajectory,) = read_trajectories(write_csv("id,x,y\n7,0,0\n7,1,0\n7,2,0\n"), ReadReport())
    assert trajectory.t.tolist() == [0, 1, 2]
    assert trajectory.label is None
    assert trajectory.id == "7"


@pytest.mark.parametrize(
    "text",
    [
        "id,x,y\r\na,0.5,0\r\na,1,1.5\r\n",
        "id,x,y\ra,0.5,0\ra,1,1.5",
        '"id", "x", y\n"a", "0.5",0\n\n a ,1,1.5',
        "ID, X ,Y\na,0.5,0\na,1,1.5\n",
        "id;x;y\na;0,5;0\na;1;1,5\n",
        "sep=;\r\nid;x;y\r\na;0,5;0\r\na;1;1,5\r\n",
        '"SEP=|"\nid|x|y\na|0.5|0\na|1|1.5\n',
        "sep=:\nid:x:y\na:0.5:0\na:1:1.5\n",
        "id\tx\ty\na\t0.5\t0\na\t1\t1.5\n",
        "id|x|y\na|5e-1|0\na|1|1.5\n",
        'id,x,y\na,"0,5",0\na,1,"1,5"\n',
        "id,x,y\na,0.5,0,\na,1,1.5,\n",
        "id,x,y,\na,0.5,0\na,1,1.5\n",
        "id,x,y,,\na,0.5,0,,,\na,1,1.5,\n",
        "id,x,y\n,,\na,0.5,0\na,1,1.5\n,,\n , ,\n\n",
        'id,note,x,y\na,"two\nlines, ""quoted""",0.5,0\na,,1,1.5\n',
        '"id","x\n","y"\na,0.5,0\na,1,1.5\n',
        "id x y\na 0.5 0\na 1 1.5\n",
        "  id     x    y \n   a   0,5    0\n   a\t 1  1,5  \n",
        'id x note y\na 0.5 "two words" 0\na 1 - 1.5\n',
        "# id x y\na 0.5 0\na 1 1.5\n",
        "#id,x,y\na,0.5,0\na,1,1.5\n",
    ],
    ids=[
        "Windows line ends",
        "classic Mac line ends",
        "quotes, spaces, blank line, no last line end",
        "capitals and spaces in the header",
        "semicolons and decimal commas",
        "Excel's separator line",
        "Excel's separator line, quoted",
        "a separator that only its line names",
        "tabs",
        "pipes, an exponent",
        "quoted decimal commas",
        "rows end in a comma",
        "the header ends in a comma",
        "several empty fields at the end",
        "rows of commas alone",
        "line break in quotes",
        "line break in the header",
        "blanks",
        "columns that are aligned, and decimal commas",
        "blanks in quotes",
        "a comment sign before names, as numpy.savetxt writes it",
        "a comment sign before a name",
    ],
)
def test_dialects_of_csv_read_alike(write_csv: Callable[[str], Path], text: str) -> None:
    report = ReadReport()
    (trajectory,) = read_trajectories(write_csv(text), report)
    assert (trajectory.id, trajectory.xy.tolist()) == ("a", [[0.5, 0], [1, 1.5]])
    assert not report.problems


@pytest.mark.parametrize(
    ("text", "columns"),
    [
        ("780.0\t1.0\t8.46\t3.59\n790.0\t1.0\t9.57\t3.79\n", "frame,id,x,y"),
        ("780 1 8.46 3.59\n790 1 9.57 3.79\n", "frame,id,x,y"),
        (
            "  7.8000000e+02  1.0000000e+00   8.46  0.0  3.59\n"
            "  7.9000000e+02  1.0000000e+00   9.57  0.0  3.79  \n",
            "frame, id, x, z, y",
        ),
        ("8,46 3,59 1 780\n9,57 3,79 1 790\n", "X,Y,ID,t"),
        ("780,?,1,8.46,3.59,\n790,?,1,9.57,3.79,\n", "time,-,id,x,y"),
        ("sep=;\n780;1;8,46;3,59\n790;1;9,57;3,79\n", "t,id,x,y"),
        ("# frame pedestrian x y\n780 1 8.46 3.59\n790 1 9.57 3.79\n", "frame,id,x,y"),
        ("time,who,px,py\n780,1,8.46,3.59\n790,1,9.57,3.79\n", "t,id,x,y"),
    ],
    ids=["tabs", "blanks", "aligned", "decimal commas", "commas", "sep=", "comment", "header"],
)
def test_a_table_without_a_header_whose_columns_are_named(
    write_csv: Callable[[str], Path], text: str, columns: str
) -> None:
    path = write_csv(text)
    (trajectory,) = read_trajectories(path, ReadReport(), columns=columns.split(","))
    assert (trajectory.id, trajectory.xy.tolist()) == ("1", [[8.46, 3.59], [9.57, 3.79]])
    assert trajectory.t.tolist() == [780, 790]


@pytest.mark.parametrize(
    ("first", "problems"), [("time,who,px,py", False), ("NA,NA,NA,NA", True), ("0,who,px,py", True)]
)
def test_names_that_others_replace_are_no_bad_row(
    write_csv: Callable[[str], Path], first: str, problems: bool
) -> None:
    report = ReadReport()
    path = write_csv(f"{first}\n780,1,8.46,3.59\n790,1,9.57,3.79\n")
    assert len(list(read_trajectories(path, report, columns=["t", "id", "x", "y"]))) == 1
    assert bool(report.problems) == problems


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        ("frame,id,x", "has no column y: found 'frame', 'id', 'x'"),
        ("id,x,y,x", "has more than one column x"),
        ("id,x,y", "has 3 fields with numbers as x and y: found 4 fields: 780, 1, 8.46, right"),
        ("frame,id,x,y", "has 4 fields with numbers as x and y: found 4 fields"),
    ],
)
def test_names_that_arent_those_of_the_columns_are_refused(
    write_csv: Callable[[str], Path], columns: str, words: str
) -> None:
    path = write_csv("780 1 8.46 right\n790 1 9.57 right\n")
    with pytest.raises(TrajectoryError) as caught:
        next(read_trajectories(path, ReadReport(), columns=columns.split(",")))
    assert words in str(caught.value)


def test_a_file_that_names_its_columns_takes_no_others(tmp_path: Path) -> None:
    path = tmp_path / "walk.json"
    path.write_text('[{"id": 1, "x": [0, 1], "y": [0, 1]}]')
    with pytest.raises(TrajectoryError, match=r"walk.json has names of its own.*\.csv, \.tsv"):
        next(read_trajectories(path, ReadReport(), columns=["id", "x", "y"]))


@pytest.mark.parametrize("header", ["id,frame,x,y,class", "class,y,x,FRAME,id"])
def test_times_and_labels_by_their_other_names(
    write_csv: Callable[[str], Path], header: str
) -> None:
    values = {"id": "a", "x": "1", "y": "2", "class": "walk"}
    names = header.split(",")
    rows = [
        ",".join({**values, "frame": frame, "FRAME": frame}[name] for name in names)
        for frame in ("10", "40")
    ]
    (trajectory,) = read_trajectories(write_csv("\n".join([header, *rows])), ReadReport())
    assert (trajectory.t.tolist(), trajectory.label) == ([10, 40], "walk")


def test_a_column_that_is_named_exactly_wins(write_csv: Callable[[str], Path]) -> None:
    (trajectory,) = read_trajectories(
        write_csv("id,X,x,y,frame,t\na,9,0,0,8,1\na,9,1,0,8,2\n"), ReadReport()
    )
    assert trajectory.xy[:, 0].tolist() == [0, 1]
    assert trajectory.t.tolist() == [1, 2]


def test_a_quoted_field_may_cross_what_is_read_at_once(write_csv: Callable[[str], Path]) -> None:
    note = '"' + "\n".join(["-" * 1000] * 60) + '"'
    rows = "".join(f"a,{k},{k},{note}\n" for k in range(4))
    report = ReadReport()
    (trajectory,) = read_trajectories(write_csv(f"id,x,y,note\n{rows}"), report)
    assert trajectory.xy[:, 0].tolist() == [0, 1, 2, 3]
    assert not report.problems


def test_an_open_quote_before_a_quoted_line_costs_only_its_own(
    write_csv: Callable[[str], Path],
) -> None:
    report = ReadReport()
    text = 'id,x,y,note\na,0,0,\na,5,5,"open\na,1,1,"fine"\na,2,2,"two\nlines"\n'
    (trajectory,) = read_trajectories(write_csv(text), report)
    assert trajectory.xy[:, 0].tolist() == [0, 1, 2]
    assert [(found.row, found.problem) for found in report.problems] == [(3, "bad_line")]


@pytest.mark.parametrize("has_time", [False, True])
def test_two_files_in_one(write_csv: Callable[[str], Path], has_time: bool) -> None:
    """Without times, rows of one id before and after a header can't be put in order."""
    parts = [
        [("a", 0), ("a", 1), ("b", 0), ("b", 1)],
        [("c", 0), ("c", 1), ("a", 2), ("a", 3)],
    ]
    header = "id,x,y,t\n" if has_time else "id,x,y\n"
    text = "".join(
        header + "".join(f"{name},{k},{k}{f',{k}' * has_time}\n" for name, k in part)
        for part in parts
    )
    report = ReadReport()
    read = {item.id: len(item.t) for item in read_trajectories(write_csv(text), report)}
    assert read == ({"a": 4, "b": 2, "c": 2} if has_time else {"b": 2, "c": 2})
    assert report.counts["dropped", "repeated_header"] == 1
    assert report.counts["refused", "joined_parts"] == (not has_time)


@pytest.mark.parametrize(
    ("line", "problem", "words"),
    [
        ("a,5", "field_count", "it has 2 fields, and the header has 3"),
        ("a,5,5,5", "field_count", "it has 4 fields, and the header has 3"),
        ('"a,5,5', "bad_line", "unexpected end of data"),
        ('a,"5"5,5', "bad_line", "expected after"),
        ("a,5," + "5" * 70_000, "bad_line", "longer than 65536 signs"),
        (",5,5", "missing_id", "id is empty"),
    ],
    ids=["short", "long", "open quote", "text after quote", "overlong", "no id"],
)
def test_a_bad_line_costs_only_itself(
    write_csv: Callable[[str], Path], line: str, problem: str, words: str
) -> None:
    report = ReadReport()
    path = write_csv(f"id,x,y\na,0,0\n{line}\na,1,1\nb,0,0\nb,1,1\n")
    trajectories = list(read_trajectories(path, report))
    assert [trajectory.id for trajectory in trajectories] == ["a", "b"]
    assert [len(trajectory.t) for trajectory in trajectories] == [2, 2]
    (found,) = report.problems
    assert (found.row, found.problem, found.action) == (3, problem, "dropped")
    assert words in found.message


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is empty"),
        (b"\n\n", "is empty"),
        (b"id,x\na,0\n", "has no column y: found 'id', 'x'"),
        (b"id;x\na;0\n", "has no column y: found 'id', 'x'"),
        (b"id:x:y\na:0:0\n", "has no column id, x, y: found 'id:x:y'"),
        (b"0.0\t1.0\t8.5\t3.1\n", "begins with numbers, and has no header: found 0.0, 1.0"),
        (
            b"0.0  1.0  8.5  3.1\n",
            "3.1. Fix: say what the columns are, in their order, such as --columns frame,id,x,y",
        ),
        (b"a,0,0\na,1,1\n", "has no column id, x, y"),
        (b"id,x,y,x\na,0,0,0\n", "has more than one column x"),
        (b'id,"x,y\na,0,0\n', "line 1: the header can't be read"),
        (b"id,x,y\n", "is empty: it holds no rows"),
        (b"sep=;\n", "has no column id, x, y: found no columns"),
        (b"id,x,y\na,0,?\na,1,2\n", "row 2: y is '?', expected a number: found 0 trajectories"),
        (b"id x y\na 0\na 1 1 1\n", "row 2: it has 2 fields, and the header has 3"),
        (b"id,x,y\na,0,5,1,5\n", "row 2: it has 5 fields, and the header has 3 (decimal commas"),
    ],
)
def test_an_unusable_file_is_refused_by_name(tmp_path: Path, content: bytes, words: str) -> None:
    path = tmp_path / "gestures.csv"
    path.write_bytes(content)
    with pytest.raises(TrajectoryError) as caught:
        list(read_trajectories(path, ReadReport()))
    assert str(caught.value).startswith(str(path))
    assert words in str(caught.value)


def test_memory_stays_small_for_a_large_file(tmp_path: Path) -> None:
    path = tmp_path / "gestures.csv"
    with path.open("w") as file:
        file.write("id,x,y,note\n")
        for number in range(2000):
            file.writelines(f"{number},{k},{k},{'-' * 300}\n" for k in range(20))
    assert path.stat().st_size > 12e6
    tracemalloc.start()
    count = sum(1 for _ in read_trajectories(path, ReadReport()))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert count == 2000
    assert peak < 2e6


def test_memory_stays_small_for_a_file_without_line_ends(tmp_path: Path) -> None:
    path = tmp_path / "gestures.csv"
    path.write_bytes(b"id,x,y\n" + GOOD.encode() + b"a" * 20_000_000)
    tracemalloc.start()
    report = ReadReport()
    (_,) = read_trajectories(path, report)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert report.problems[0].row == 4
    assert peak < 2e6


@settings(
    max_examples=200,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(st.binary(max_size=200))
def test_arbitrary_bytes_give_trajectories_or_our_error(tmp_path: Path, tail: bytes) -> None:
    path = tmp_path / "gestures.csv"
    path.write_bytes(b"id,x,y\n" + GOOD.encode() + tail)
    with contextlib.suppress(TrajectoryError):
        for trajectory in read_trajectories(path, ReadReport()):
            assert len(trajectory.t) >= 2
