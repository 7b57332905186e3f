"""The memory of a process that reads 100,000 trajectories whose rows are ordered by frame."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from runtime.peak_memory import PEAK

TRAJECTORIES, FRAMES = 100_000, 20
MAX_MEBIBYTES = 400

# x is the frame and y tells of the id, so that each point can be checked.
READ = (
    PEAK
    + """
import sys
import numpy as np
from magvit_runtime.clips.trajectories import ReadReport, read_trajectories
report = ReadReport()
frames = np.arange(int(sys.argv[2]))
for number, item in enumerate(read_trajectories(sys.argv[1], report)):
    assert item.id == f"p{number}"
    assert (item.t == frames).all() and (item.xy[:, 0] == frames).all()
    assert (item.xy[:, 1] == number + 0.25).all()
assert not report.problems
print(report.trajectories, peak() // 2**20)
"""
)


@pytest.mark.slow
def test_a_hundred_thousand_mixed_trajectories_take_little_memory(tmp_path: Path) -> None:
    path = tmp_path / "frames.csv"
    ends = [f"p{number},{number}.25\n" for number in range(TRAJECTORIES)]
    with path.open("w") as file:
        file.write("frame,x,id,y\n")
        for frame in range(FRAMES):
            start = f"{frame},{frame},"
            file.write(start + start.join(ends))
    done = subprocess.run(
        [sys.executable, "-c", READ, path, str(FRAMES)], check=True, capture_output=True, text=True
    )
    count, mebibytes = map(int, done.stdout.split())
    assert count == TRAJECTORIES
    assert mebibytes < MAX_MEBIBYTES
