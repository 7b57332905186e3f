"""What an id, a label or the name of a column is, whatever wrote it."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from pathlib import Path

import numpy as np
import pytest

from magvit_runtime.clips.trajectories import ReadReport, read_trajectories
from magvit_runtime.clips.trajectories.names import MISSING, name_of, names_of


@pytest.mark.parametrize(
    ("value", "name"),
    [
        ("1.0", "1"),
        ("-3.000", "-3"),
        ("-0.0", "0"),
        ("12.", "12"),
        ("1e+05", "100000"),
        ("1.25e+03", "1250"),
        (1.0, "1"),
        (-0.0, "0"),
        (1e20, "100000000000000000000"),
        (Decimal("4.00"), "4"),
        (Decimal("4.50"), "4.5"),
        (np.float32(2).item(), "2"),
        (7, "7"),
        (True, "True"),
        (np.bool_(False), "False"),
        ("true", "True"),
        (" FALSE", "False"),
        (b"false", "False"),
        ("True", "True"),
        ("tRUE", "tRUE"),
        (b"walk", "walk"),
        (b"\xff\x00", "ff00"),
        (" walk ", "walk"),
        # These may well be names, and stay.
        ("007", "007"),
        ("007.0", "007.0"),
        ("1.50", "1.50"),
        ("1.2.0", "1.2.0"),
        ("1e5", "1e5"),
        ("1.5e+00", "1.5e+00"),
        ("none", "none"),
        ("na", "na"),
        ("inf", "inf"),
        (None, ""),
        (float("nan"), ""),
        *[(text, "") for text in sorted(MISSING)],
        (" NA ", ""),
    ],
)
def test_a_value_as_a_name(value: object, name: str) -> None:
    assert name_of(value) == name
    assert names_of([value, value]) == [name, name]


def test_equal_numbers_of_different_types_are_told_apart() -> None:
    assert names_of([1, True, 1.0, "True", False, 0]) == ["1", "True", "1", "True", "False", "0"]


@pytest.mark.parametrize("missing", sorted(MISSING))
def test_a_missing_value_is_neither_id_nor_class(
    write_csv: Callable[[str], Path], missing: str
) -> None:
    text = f"id,x,y,label\na,0,0,{missing}\na,1,1,{missing}\n{missing},2,2,u\n{missing},3,3,u\n"
    report = ReadReport()
    (trajectory,) = read_trajectories(write_csv(text), report)
    assert (trajectory.id, trajectory.label) == ("a", None)
    assert report.counts == {("dropped", "missing_id"): 2}


def test_rows_of_an_id_meet_however_its_number_is_written(
    write_csv: Callable[[str], Path],
) -> None:
    text = "id,x,y,label\n1,0,0,2\n2,0,0,1\n1.0,1,1,2.0\n2.00,5,5,1\n"
    first, second = read_trajectories(write_csv(text), ReadReport())
    assert (first.id, first.label, len(first.t)) == ("1", "2", 2)
    assert (second.id, second.label, len(second.t)) == ("2", "1", 2)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("pandas.csv", "id,x,y,label\n1,0,0,True\n1,1,1,True\n2,0,0,False\n2,1,1,False\n"),
        ("polars.csv", "id,x,y,label\n1,0,0,true\n1,1,1,true\n2,0,0,false\n2,1,1,false\n"),
        ("R.csv", "id,x,y,label\n1,0,0,TRUE\n1,1,1,TRUE\n2,0,0,FALSE\n2,1,1,FALSE\n"),
        (
            "whole.json",
            '[{"id": 1, "x": [0, 1], "y": [0, 1], "label": true},'
            '{"id": 2, "x": [0, 1], "y": [0, 1], "label": false}]',
        ),
        (
            "rows.jsonl",
            "".join(
                f'{{"id": {name}, "x": {x}, "y": {x}, "class": {label}}}\n'
                for name, label in ((1, "true"), (2, '"False"'))
                for x in (0, 1)
            ),
        ),
    ],
)
def test_booleans_are_the_same_labels_in_every_file(
    tmp_path: Path, name: str, content: str
) -> None:
    (tmp_path / name).write_text(content)
    found = read_trajectories(tmp_path / name, ReadReport())
    assert [trajectory.label for trajectory in found] == ["True", "False"]
