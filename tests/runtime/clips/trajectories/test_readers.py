"""What holds for every kind of file."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from magvit_runtime.clips.trajectories import ReadReport, read_trajectories
from magvit_runtime.errors import TrajectoryError


@pytest.mark.parametrize("name", ["gestures.csv", "gestures.parquet", "gestures.npz"])
def test_a_missing_file_is_refused_at_once(tmp_path: Path, name: str) -> None:
    with pytest.raises(TrajectoryError, match=rf"{name} can't be opened .* No such file"):
        read_trajectories(tmp_path / name, ReadReport())


def test_a_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "gestures.csv").mkdir()
    with pytest.raises(TrajectoryError, match="Is a directory"):
        read_trajectories(tmp_path / "gestures.csv", ReadReport())


@pytest.mark.parametrize("name", ["gestures.xml", "gestures", "gestures.npz.gz"])
def test_an_unknown_kind_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("{}")
    with pytest.raises(
        TrajectoryError, match=r"unknown kind: .* expected \.csv, .*\.parquet or \.npz"
    ):
        read_trajectories(tmp_path / name, ReadReport())


def test_the_report_grows_with_the_stream(tmp_path: Path) -> None:
    path = tmp_path / "gestures.CSV"
    path.write_text("id,x,y\na,0,0\na,1,1\nb,0,0\nc,0,0\nc,1,1\n")
    report = ReadReport()
    stream = read_trajectories(str(path), report)
    assert not report.problems
    list(stream)
    assert report.trajectories == 2
    assert [found.trajectory for found in report.problems] == ["b"]


def test_one_data_set_reads_alike_from_each_format(tmp_path: Path) -> None:
    pa = pytest.importorskip("pyarrow", reason="Parquet needs pyarrow (the extra [data])")
    pq = pytest.importorskip("pyarrow.parquet")
    rng = np.random.default_rng(7)
    ids = np.repeat(["a", "b", "c"], 5)
    columns = {"id": ids, "x": rng.random(15), "y": rng.random(15), "label": np.char.upper(ids)}
    with (tmp_path / "g.csv").open("w") as file:
        print(*columns, sep=",", file=file)
        for row in zip(*columns.values(), strict=True):
            print(*row, sep=",", file=file)
    pq.write_table(pa.table(columns), tmp_path / "g.parquet")
    np.savez(tmp_path / "g.npz", **columns)  # type: ignore[arg-type]  # numpy's stub
    readings = [
        [
            (item.id, item.label, item.xy.tolist(), item.t.tolist())
            for item in read_trajectories(tmp_path / name, ReadReport())
        ]
        for name in ("g.csv", "g.parquet", "g.npz")
    ]
    assert readings[0] == readings[1] == readings[2]


def test_importing_the_package_leaves_pyarrow_alone() -> None:
    code = "import sys, magvit_runtime.clips.trajectories; sys.exit('pyarrow' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
