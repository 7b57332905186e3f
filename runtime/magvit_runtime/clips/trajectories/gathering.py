"""Puts the points of each id together, in memory that doesn't grow with the file.

Files that hold one trajectory after another are streamed. Where an id comes back after others, as
where rows are ordered by frame, all points go to a temporary file as records of one size, and from
there, ordered by id, to a second one, part by part.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import groupby
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray

from magvit_runtime.clips.trajectories.columns import Table, Values
from magvit_runtime.clips.trajectories.names import names_of
from magvit_runtime.clips.trajectories.points import PointReader, Points, runs_of_one_id
from magvit_runtime.clips.trajectories.records import ReadReport
from magvit_runtime.clips.trajectories.times import Times
from magvit_runtime.errors import TrajectoryError


def _record(numbers: int) -> np.dtype[np.void]:
    """A point of so many numbers, 48 bytes for two of them.

    An id and a label are numbered in the order in which they come.
    """
    return np.dtype(
        [
            ("row", np.int64),
            ("places", np.float64, (numbers,)),
            ("whole", np.int64),
            ("part", np.float64),
            ("id", np.int32),
            ("label", np.int32),
        ]
    )


# Points in memory at once, unless one trajectory has more: about 12 MB, and twice that to sort.
POINTS_AT_ONCE = 1 << 18


def gather(table: Table, report: ReadReport) -> Iterator[Points]:
    """Yields the points of each id, in the order in which ids first come.

    The table is read twice: once for its ids alone, and once for all.

    Args:
        table: A file of one row a point.
        report: Collects rows that can't be used.

    Raises:
        TrajectoryError: There is no room for the temporary files.
    """
    reader = PointReader(report)
    if _is_grouped(table.ids()):
        yield from runs_of_one_id(map(reader.read, table.blocks(report)))
    else:
        yield from _sorted(table.path, map(reader.read, table.blocks(report)))


def _is_grouped(blocks: Iterable[Values]) -> bool:
    """Whether the rows of each id follow each other."""
    # Numbers that stand for the ids, since texts take more memory. Where two ids have one number,
    # which is next to impossible, the file is sorted without need.
    seen: set[int] = set()
    current = ""
    for values in blocks:
        ids = names_of(values.tolist() if isinstance(values, np.ndarray) else values)
        for name, _ in groupby(ids):
            if name and name != current:
                current = name
                if hash(name) in seen:
                    return False
                seen.add(hash(name))
    return True


def _sorted(path: Path, blocks: Iterable[Points]) -> Iterator[Points]:
    ids: dict[str, int] = {}
    labels: dict[str, int] = {}
    counts = np.zeros(1024, np.int64)
    ticks = 0  # 0: the file has no times.
    has_labels = False
    record = _record(2)
    with _temporary_file(path) as unsorted, _temporary_file(path) as by_id:
        for block in blocks:
            records = _records(block, ids, labels)
            record = records.dtype
            if len(ids) > len(counts):
                counts = np.concatenate([counts, np.zeros(len(ids), np.int64)])
            counts += np.bincount(records["id"], minlength=len(counts))
            ticks = max(ticks, block.times.ticks if block.times else 0)
            has_labels |= block.labels is not None
            with _naming_the_folder(path):
                unsorted.write(records.tobytes())
        ends = np.cumsum(counts[: len(ids)])
        with _naming_the_folder(path):
            _write_by_id(unsorted, by_id, ends, record)
        id_names, label_names = list(ids), list(labels)
        for records in _read_by_id(by_id, ends, record):
            yield Points(
                records["row"],
                [id_names[records["id"][0]]] * len(records),
                [label_names[label] for label in records["label"]] if has_labels else None,
                records["places"],
                Times(records["whole"], records["part"], ticks) if ticks else None,
            )


def _temporary_file(path: Path) -> IO[bytes]:
    with _naming_the_folder(path):
        return tempfile.TemporaryFile()


@contextmanager
def _naming_the_folder(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise TrajectoryError(
            f"{path} mixes rows of several trajectories, and they can't be sorted",
            found=f"{error.strerror} in {tempfile.gettempdir()}",
            mend="sort the file by id, or set TMPDIR to a folder with room for 128 bytes a row",
        ) from error


def _records(block: Points, ids: dict[str, int], labels: dict[str, int]) -> NDArray[np.void]:
    records = np.zeros(len(block.ids), _record(block.places.shape[1]))
    records["row"], records["places"] = block.rows, block.places
    records["id"] = [ids.setdefault(name, len(ids)) for name in block.ids]
    if block.times:
        records["whole"], records["part"] = block.times.whole, block.times.part
    if block.labels is not None:
        records["label"] = [labels.setdefault(name, len(labels)) for name in block.labels]
    return records


def _parts(ends: NDArray[np.int64]) -> list[tuple[int, int]]:
    """Cuts the ids into ranges of at most `POINTS_AT_ONCE` points, or of one id that has more."""
    parts = []
    first = 0
    while first < len(ends):
        start = ends[first - 1] if first else 0
        last = int(np.searchsorted(ends, start + POINTS_AT_ONCE, side="right"))
        last = max(last, first + 1)
        parts.append((first, last))
        first = last
    return parts


def _write_by_id(
    unsorted: IO[bytes], by_id: IO[bytes], ends: NDArray[np.int64], record: np.dtype[np.void]
) -> None:
    """Writes each part's points together, in file order within the part."""
    parts = _parts(ends)
    lasts = np.array([last for _, last in parts])
    starts = [int(ends[first - 1]) if first else 0 for first, _ in parts]
    unsorted.seek(0)
    while data := unsorted.read(POINTS_AT_ONCE * record.itemsize):
        records = np.frombuffer(data, record)
        part_of = np.searchsorted(lasts, records["id"], side="right")
        records = records[np.argsort(part_of, kind="stable")]
        present, counts = np.unique(part_of, return_counts=True)
        done = 0
        for part, count in zip(present.tolist(), counts.tolist(), strict=True):
            by_id.seek(starts[part] * record.itemsize)
            by_id.write(records[done : done + count].tobytes())
            starts[part] += count
            done += count
    by_id.flush()


def _read_by_id(
    by_id: IO[bytes], ends: NDArray[np.int64], record: np.dtype[np.void]
) -> Iterator[NDArray[np.void]]:
    """Yields the points of each id."""
    by_id.seek(0)
    for first, last in _parts(ends):
        start = int(ends[first - 1]) if first else 0
        size = int(ends[last - 1]) - start
        records = np.frombuffer(by_id.read(size * record.itemsize), record)
        records = records[np.argsort(records["id"], kind="stable")]
        yield from np.split(records, ends[first : last - 1] - start)
