"""Files of generated trajectories are read as what was written."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from magvit_runtime.clips.generated import (
    GENERATED_SUFFIXES,
    KINDS,
    GenerationOptions,
    generate_trajectories,
    write_generated,
)
from magvit_runtime.clips.trajectories import ReadReport, read_trajectories
from magvit_runtime.errors import InputError

OPTIONS = GenerationOptions(tuple(KINDS), count=3, samples=9)
IN_SPACE = GenerationOptions(tuple(KINDS), count=3, samples=9, dimensions=3)


@pytest.mark.parametrize("suffix", GENERATED_SUFFIXES)
@pytest.mark.parametrize("options", [OPTIONS, IN_SPACE], ids=["2-D", "3-D"])
def test_what_is_written_is_read(tmp_path: Path, suffix: str, options: GenerationOptions) -> None:
    path = tmp_path / f"made{suffix}"
    write_generated(path, generate_trajectories(options), options.dimensions)
    read = list(read_trajectories(path, ReadReport()))
    written = list(generate_trajectories(options))
    assert [(item.id, item.label) for item in read] == [(one.id, one.label) for one in written]
    for item, one in zip(read, written, strict=True):
        np.testing.assert_array_equal(item.xy[:, :2], one.positions[:, :2])
        np.testing.assert_array_equal(item.t, one.t)


def test_json_has_the_form_of_records(tmp_path: Path) -> None:
    path = tmp_path / "made.json"
    write_generated(path, generate_trajectories(IN_SPACE), 3)
    records = json.loads(path.read_text())
    assert len(records) == 24
    assert records[1].keys() == {"id", "class", "positions"}
    assert records[1]["class"] == "circular"
    assert np.shape(records[1]["positions"]) == (9, 3)


def test_csv_has_columns_of_three_dimensions(tmp_path: Path) -> None:
    path = tmp_path / "made.csv"
    write_generated(path, generate_trajectories(IN_SPACE), 3)
    header, first, *rest = path.read_text().splitlines()
    assert header == "id,t,x,y,z,label"
    assert first.startswith("linear-00000,0.0,")
    assert len(rest) == 24 * 9 - 1
    assert all(len(value) <= 10 for value in first.split(",")[2:5])  # Six decimals.


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    def failing():
        yield next(generate_trajectories(OPTIONS))
        raise ValueError("midway")

    for suffix in GENERATED_SUFFIXES:
        path = tmp_path / f"made{suffix}"
        path.write_bytes(b"old")
        with pytest.raises(ValueError, match="midway"):
            write_generated(path, failing(), 2)
        assert path.read_bytes() == b"old"
    assert len(list(tmp_path.iterdir())) == len(GENERATED_SUFFIXES)


@pytest.mark.parametrize("name", ["made.npz", "made", "made.csv.gz"])
def test_other_kinds_of_file_are_refused(tmp_path: Path, name: str) -> None:
    message = r"is of an unknown kind: .*expected \.csv, \.json, \.parquet"
    with pytest.raises(InputError, match=message):
        write_generated(tmp_path / name, generate_trajectories(OPTIONS), 2)
    assert not list(tmp_path.iterdir())
