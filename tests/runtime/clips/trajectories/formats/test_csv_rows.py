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
        "\ufeffid,x,y\na,0,0\na,1,1\n",
        "id,x,y\r\na,0,0\r\na,1,1\r\n",
        '"id", "x", y\n"a", "0",0\n\n a ,1,1',
    ],
    ids=["byte order mark", "Windows line ends", "quotes, spaces, blank line, no last line end"],
)
def test_variants_of_csv_read_alike(write_csv: Callable[[str], Path], text: str) -> None:
    report = ReadReport()
    (trajectory,) = read_trajectories(write_csv(text), report)
    assert (trajectory.id, trajectory.xy.tolist()) == ("a", [[0, 0], [1, 1]])
    assert not report.problems


@pytest.mark.parametrize(
    ("line", "problem", "words"),
    [
        ("a,5", "field_count", "it has 2 fields, and the header has 3"),
        ("a,5,5,5", "field_count", "it has 4 fields, and the header has 3"),
        ('"a,5,5', "bad_line", "unexpected end of data"),
        ('a,"5"5,5', "bad_line", "expected after"),
        ("a,5," + "5" * 70_000, "bad_line", "longer than 65536 bytes"),
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
        (b"id;x;y\na;0;0\n", "has no column id, x, y: found 'id;x;y'"),
        (b"a,0,0\na,1,1\n", "has no column id, x, y"),
        (b"id,x,y,x\na,0,0,0\n", "has more than one column x"),
        (b'id,"x,y\na,0,0\n', "line 1: the header can't be read"),
        (b"id,x,y\ra,0,0\ra,1,1\r", "line 1: the header can't be read"),
        (b"id,x,y\na,0,0\n\xe9,1,1\n", "line 3, isn't UTF-8 text: found byte 0xe9 at place 1"),
        ("id,x,y\na,0,0\n".encode("utf-16"), "line 1, isn't UTF-8 text"),
        (b"id,x,y\n", "holds no usable trajectory: found 0 trajectories read"),
    ],
)
def test_an_unusable_file_is_refused_by_name(tmp_path: Path, content: bytes, words: str) -> None:
    path = tmp_path / "gestures.csv"
    path.write_bytes(content)
    with pytest.raises(TrajectoryError) as caught:
        list(read_trajectories(path, ReadReport()))
    assert str(caught.value).startswith(str(path))
    assert words in str(caught.value)


def test_bytes_that_are_not_utf8_far_down_leave_what_came_before(tmp_path: Path) -> None:
    path = tmp_path / "gestures.csv"
    path.write_bytes(b"id,x,y\na,0,0\na,1,1\nb,0,0\n\xff,1,1\n")
    stream = read_trajectories(path, ReadReport())
    assert next(stream).id == "a"
    with pytest.raises(TrajectoryError, match="line 5"):
        next(stream)


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
