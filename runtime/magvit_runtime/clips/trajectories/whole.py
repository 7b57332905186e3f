"""Trajectories of files that hold each as a whole: `xy` of npz, and JSON."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from magvit_runtime.clips.trajectories.columns import RawBlock
from magvit_runtime.clips.trajectories.names import name_of
from magvit_runtime.clips.trajectories.points import PointReader, Points
from magvit_runtime.clips.trajectories.records import ReadReport, RowProblem


def whole_trajectories(blocks: Iterable[RawBlock], report: ReadReport) -> Iterator[Points]:
    """Yields the points of each trajectory; one without an id, or with one met before, is refused.

    Args:
        blocks: One trajectory each.
        report: Collects what can't be used.
    """
    reader = PointReader(report)
    seen: set[str] = set()
    for block in blocks:
        row, name = int(block.rows[0]), name_of(block.columns["id"][0])
        if not name:
            report.add(RowProblem(row, None, "missing_id", "its id is empty", "refused"))
        elif name in seen:
            message = "its id was met before; of whole trajectories with one id the first is kept"
            report.add(RowProblem(row, name, "repeated_id", message, "refused"))
        else:
            seen.add(name)
            yield reader.read(block)
