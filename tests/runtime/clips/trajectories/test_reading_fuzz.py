"""What is read equals what was written, in any format and dialect; or a sentence says why not.

Trajectories are drawn once and written as a person's program might: the numbers, names and missing
values, the order of rows and columns, and whatever a format leaves open. Every point is expected
back, exactly, except those of rows that were made unusable on purpose, which the report must name.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import re
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from magvit_runtime.clips.trajectories import ReadReport, read_trajectories
from magvit_runtime.clips.trajectories.names import MISSING
from magvit_runtime.errors import TrajectoryError

pa = pytest.importorskip("pyarrow", reason="Parquet needs pyarrow (the extra [data])")
pq = pytest.importorskip("pyarrow.parquet")

# Of each format; in all 3,200.
CASES = 640
# A name of its own in every form: no missing value, no blanks around it, no float that is whole.
NAMES = st.one_of(
    st.integers(-5, 40).map(str),
    st.sampled_from(["walk", "nan7", "none", "NA-1", "007", "1.5", "a b", "É–ß", "走", 'say "hi"']),
    st.text("abcxyz,;|-_'é", min_size=1, max_size=4).filter(lambda name: name not in MISSING),
)
NUMBERS = st.one_of(
    st.integers(-(10**6), 10**6).map(float),
    st.floats(-1e6, 1e6).filter(lambda number: not 0 < abs(number) < 1e-300),
)


@dataclass(frozen=True)
class Row:
    """One point as it is meant; a bad one has a text for x that is no number."""

    id: str
    label: str | None
    t: int
    x: float
    y: float
    bad: str | None = None

    @property
    def z(self) -> float:
        """Written into half of the files."""
        return self.y / 2


@st.composite
def tables(draw: st.DrawFn) -> list[Row]:
    """Rows of one to four trajectories: one after another, by time, or in any order."""
    rows: list[Row] = []
    names = draw(st.lists(NAMES, min_size=1, max_size=4, unique=True))
    labels = cycle(draw(st.lists(st.one_of(st.none(), NAMES), min_size=1, max_size=3)))
    numbers = cycle(draw(st.lists(NUMBERS, min_size=1, max_size=7)))
    steps = cycle(draw(st.lists(st.integers(1, 9), min_size=1, max_size=3)))
    for name, label in zip(names, labels, strict=False):
        t = draw(st.sampled_from([0, 0, -3, 1_700_000_000, 1_700_000_000_000_000_001]))
        for _ in range(draw(st.integers(2, 6))):
            rows.append(Row(name, label, t, next(numbers), next(numbers)))
            t += next(steps)
    for place in draw(st.lists(st.integers(0, len(rows) - 1), max_size=3)):
        rows[place] = replace(rows[place], bad=draw(st.sampled_from(["?", "", "NA", "1_0", "inf"])))
    match draw(st.sampled_from(["grouped", "by time", "any"])):
        case "by time":
            rows.sort(key=lambda row: row.t)
        case "any":
            rows = draw(st.permutations(rows))
    return rows


# What is reported of the rows that were made unusable.
BAD = ("not_a_number", "not_finite")
# Label, times from the first, and points.
Wanted = tuple[str | None, list[Any], list[Any]]


def expected(rows: list[Row], has_times: bool) -> dict[str, Wanted]:
    """What each trajectory is that can be used."""
    result = {}
    for name in dict.fromkeys(row.id for row in rows):
        places = enumerate(row for row in rows if row.id == name)
        points = [(row.t if has_times else place, row) for place, row in places if row.bad is None]
        points.sort(key=lambda point: point[0])
        if len(points) > 1:
            times = [t - points[0][0] for t, _ in points]
            result[name] = (points[0][1].label, times, [[row.x, row.y] for _, row in points])
    return result


def check(
    path: Path, rows: list[Row], has_times: bool, has_labels: bool = True, has_z: bool = False
) -> None:
    """Reads a file, and compares."""
    report = ReadReport()
    wanted = expected(rows, has_times)
    trajectories = []
    if wanted:
        trajectories = list(read_trajectories(path, report))
    else:
        with pytest.raises(TrajectoryError) as caught:
            read_trajectories(path, report)
        first = min(found.row for found in report.problems if found.problem in BAD)
        assert f"row {first}: x is" in str(caught.value)
    read = {item.id: item for item in trajectories}
    assert list(read) == list(wanted)
    for name, (label, times, points) in wanted.items():
        assert read[name].label == (label if has_labels else None)
        assert (read[name].t - read[name].t[0]).tolist() == times
        assert read[name].xy.tolist() == points
        z = read[name].z
        assert (z is not None) == has_z
        assert z is None or z.tolist() == [y / 2 for _, y in points]
    assert sum(report.counts["dropped", problem] for problem in BAD) == sum(
        row.bad is not None for row in rows
    )
    assert {problem for _, problem in report.counts} <= {*BAD, "unsorted_time", "too_few_points"}


def fuzz(test: Callable[..., None]) -> Callable[..., None]:
    """Runs a test on CASES tables, the same ones every time."""
    chosen = settings(
        max_examples=CASES,
        deadline=None,
        derandomize=True,
        # Finding a smaller case takes minutes; remove this line to look for one.
        phases=[Phase.generate],
    )
    return pytest.mark.slow(chosen(test))


def cells(
    rows: list[Row], draw: Callable[..., Any], number: Callable[[float], Any] = repr
) -> dict[str, list[Any]]:
    """The columns of a table as texts."""
    missing = draw(st.sampled_from(sorted(MISSING)))
    # What a program makes of integers once one of their column is missing.
    as_float = draw(st.booleans())

    def name(text: str | None) -> str:
        if text is None:
            return missing
        return f"{text}.0" if as_float and _integers([text]) else text

    return {
        "id": [name(row.id) for row in rows],
        "label": [name(row.label) for row in rows],
        "t": [str(row.t) for row in rows],
        "x": [number(row.x) if row.bad is None else row.bad for row in rows],
        "y": [number(row.y) for row in rows],
        "z": [number(row.z) for row in rows],
    }


def shuffled(draw: Callable[..., Any], columns: dict[str, list[Any]]) -> dict[str, list[Any]]:
    """The columns in any order, with others among them, some perhaps left out or renamed."""
    columns = dict(columns)
    note = draw(st.sampled_from(["", "x", "a, b; c | d\te", 'say "hi"', "two\nlines"]))
    columns["note"] = [note, *["-"] * (len(columns["id"]) - 1)]
    named = {"t": ["", "time", "Frame"], "label": ["", "class"], "z": [""]}
    for name, others in named.items():
        other = draw(st.sampled_from([name, name.upper(), *others]))
        values = columns.pop(name)
        if other:
            columns[other] = values
    names = draw(st.permutations(list(columns)))
    return {name: columns[name] for name in names}


def kept(columns: dict[str, list[Any]]) -> tuple[bool, bool, bool]:
    """Whether there are times, labels and z."""
    names = {column.lower() for column in columns}
    return bool(names & {"t", "time", "frame"}), bool(names & {"label", "class"}), "z" in names


@fuzz
@given(st.data(), tables())
def test_text_tables(data: st.DataObject, rows: list[Row]) -> None:
    draw = data.draw
    comma = draw(st.booleans())
    style = draw(st.sampled_from([repr, lambda v: f"{v:.17g}", lambda v: f" {v!r} "]))

    def number(value: float) -> str:
        text = style(value)
        return text.replace(".", ",") if comma else text

    columns = shuffled(draw, cells(rows, draw, number))
    delimiter = draw(st.sampled_from([",", ";", "\t", "|"]))
    line_end = draw(st.sampled_from(["\n", "\r\n", "\r"]))
    encoding = draw(st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-32"]))
    quoting = draw(st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL, csv.QUOTE_NONNUMERIC]))
    header_end, row_end = (draw(st.sampled_from(["", "", delimiter])) for _ in range(2))
    text = io.StringIO()
    if draw(st.booleans()):
        text.write(f"sep={delimiter}{line_end}")
    lines = [list(columns), *map(list, zip(*columns.values(), strict=True))]
    blank_after = draw(st.integers(0, len(lines)))
    for place, line in enumerate(lines):
        one = io.StringIO()
        # The writer quotes the signs of its own line end, so it needs one.
        csv.writer(one, delimiter=delimiter, quoting=quoting).writerow(line)
        text.write(
            one.getvalue().removesuffix("\r\n") + (row_end if place else header_end) + line_end
        )
        if place == blank_after:
            text.write(draw(st.sampled_from(["", delimiter * (len(columns) - 1), " "])) + line_end)
    content = text.getvalue().encode(encoding)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / draw(st.sampled_from(["g.csv", "g.TSV", "g.txt", "g.csv.gz"]))
        path.write_bytes(gzip.compress(content, 1) if path.suffix == ".gz" else content)
        check(path, rows, *kept(columns))


@fuzz
@given(st.data(), tables())
def test_parquet(data: st.DataObject, rows: list[Row]) -> None:
    draw = data.draw
    texts = [pa.string(), pa.large_string(), pa.string_view(), pa.binary(), pa.large_binary()]

    def names(values: list[str | None]) -> Any:
        whole = [pa.int8(), pa.int64(), pa.float32(), pa.float64()] if _integers(values) else []
        kind = draw(st.sampled_from([*whole, *texts]))
        if not (pa.types.is_integer(kind) or pa.types.is_floating(kind)):
            array = pa.array(values, pa.string()).cast(kind)
            can_be_encoded = kind != pa.string_view()
            return array.dictionary_encode() if can_be_encoded and draw(st.booleans()) else array
        return pa.array([None if value is None else int(value) for value in values]).cast(kind)

    def numbers(values: list[float], bad: list[str | None]) -> Any:
        if any(item is not None for item in bad):
            pairs = zip(values, bad, strict=True)
            if draw(st.booleans()):  # Texts; else a missing number, whatever was wrong with it.
                return pa.array([repr(v) if b is None else b for v, b in pairs])
            return pa.array([v if b is None else None for v, b in pairs], pa.float64())
        return pa.array(values)

    t = pa.array([row.t for row in rows], pa.int64())
    if draw(st.booleans()):
        t = t.cast(pa.string())
    columns = shuffled(
        draw,
        {
            "id": names([row.id for row in rows]),
            "label": names([row.label for row in rows]),
            "t": t,
            "x": numbers([row.x for row in rows], [row.bad for row in rows]),
            "y": numbers([row.y for row in rows], [None] * len(rows)),
            "z": numbers([row.z for row in rows], [None] * len(rows)),
        },
    )
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "g.parquet"
        pq.write_table(pa.table(columns), path, row_group_size=draw(st.integers(1, 9)))
        check(path, rows, *kept(columns))


@fuzz
@given(st.data(), tables())
def test_npz(data: st.DataObject, rows: list[Row]) -> None:
    draw = data.draw

    def names(values: list[str | None]) -> Any:
        if _integers(values):
            numbers = [np.nan if value is None else float(value) for value in values]
            if draw(st.booleans()):
                return np.array(numbers, draw(st.sampled_from([np.float32, np.float64])))
            if None not in values:
                return np.array(numbers).astype(draw(st.sampled_from([np.int8, np.int64])))
        if draw(st.booleans()):
            return np.array(values, object)
        texts = np.array(["" if value is None else value for value in values])
        return np.char.encode(texts, "utf-8") if draw(st.booleans()) else texts

    x: Any = np.array([row.x if row.bad is None else np.nan for row in rows])
    if draw(st.booleans()):
        x = np.array([repr(row.x) if row.bad is None else row.bad for row in rows])
    t = np.array([row.t for row in rows], np.int64)
    columns = shuffled(
        draw,
        {
            "id": names([row.id for row in rows]),
            "label": names([row.label for row in rows]),
            "t": t if draw(st.booleans()) else np.array(list(map(str, t.tolist())), object),
            "x": x if draw(st.booleans()) else x.astype(object),
            "y": np.array([row.y for row in rows]),
            "z": np.array([row.z for row in rows]),
        },
    )
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "g.npz"
        np.savez(path, **columns)
        check(path, rows, *kept(columns))


def json_row(row: Row, draw: Callable[..., Any]) -> dict[str, Any]:
    """A row as an object: numbers as they are, or as texts."""

    def name(text: str | None) -> Any:
        if text is not None and _integers([text]) and draw(st.booleans()):
            return draw(st.sampled_from([int, float]))(text)
        return text

    x = row.x if row.bad is None else row.bad or None
    return {"id": name(row.id), "label": name(row.label), "t": row.t, "x": x, "y": row.y}


@fuzz
@given(st.data(), tables())
def test_json_rows(data: st.DataObject, rows: list[Row]) -> None:
    draw = data.draw
    objects = [json_row(row, draw) for row in rows]
    has_z = draw(st.booleans())
    if has_z:
        objects = [item | {"z": row.z} for item, row in zip(objects, rows, strict=True)]
    form = draw(st.sampled_from(["array", "indented", "lines", "columns", "member"]))
    if form == "lines":
        text = "\n".join(map(json.dumps, objects))
    elif form == "columns":
        text = json.dumps({name: [item[name] for item in objects] for name in objects[0]})
    else:
        value = {"rows": objects} if form == "member" else objects
        text = json.dumps(value, indent=2 if form == "indented" else None, ensure_ascii=False)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / ("g.jsonl" if form == "lines" else "g.json")
        path.write_bytes(text.encode(draw(st.sampled_from(["utf-8", "utf-8-sig", "utf-16"]))))
        check(path, rows, has_times=True, has_z=has_z)


@fuzz
@given(st.data(), tables())
def test_json_trajectories(data: st.DataObject, rows: list[Row]) -> None:
    draw = data.draw
    names = list(dict.fromkeys(row.id for row in rows))
    rows = [row for name in names for row in rows if row.id == name]
    trajectories = []
    has_z = draw(st.booleans())
    for name in names:
        z = [row.z for row in rows if row.id == name]
        points = [json_row(row, draw) for row in rows if row.id == name]
        item: dict[str, Any] = {key: points[0][key] for key in ("id", "label")}
        item["t"] = [point["t"] for point in points]
        if draw(st.booleans()):
            item |= {"x": [point["x"] for point in points], "y": [point["y"] for point in points]}
            item |= {"z": z} if has_z else {}
        else:
            lists = [[point["x"], point["y"]] for point in points]
            lists = [[*xy, z] for xy, z in zip(lists, z, strict=True)] if has_z else lists
            item["positions"] = lists
        trajectories.append(item)
    form = draw(st.sampled_from(["array", "indented", "lines", "by id", "member"]))
    if form == "lines":
        text = "\n".join(map(json.dumps, trajectories))
    elif form == "by id":
        text = json.dumps(
            {
                name: {key: item[key] for key in item if key != "id"}
                for name, item in zip(names, trajectories, strict=True)
            }
        )
    else:
        value = {"trajectories": trajectories} if form == "member" else trajectories
        text = json.dumps(value, indent=1 if form == "indented" else None)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / ("g.ndjson" if form == "lines" else "g.json.gz")
        path.write_bytes(gzip.compress(text.encode(), 1) if path.suffix == ".gz" else text.encode())
        check(path, rows, has_times=True, has_z=has_z)


def _integers(names: list[str | None]) -> bool:
    """Whether all names are integers, written as Python writes them."""
    return all(name is None or re.fullmatch(r"0|-?[1-9][0-9]*", name) for name in names)
