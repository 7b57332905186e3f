"""A run's work in parts: some clips of a file, always the same, drawn when asked for."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from functools import partial
from itertools import chain, islice, starmap
from typing import Any

from magvit_runtime.bundle.drawing_record import DrawingRecord
from magvit_runtime.clips.batches import ClipBatch
from magvit_runtime.clips.drawing import drawing_record
from magvit_runtime.clips.sources import drawn_batches, read_clips
from magvit_runtime.clips.trajectories import (
    ONE_CAMERA,
    Cameras,
    Positions,
    ReadReport,
    StyleOptions,
    Trajectory,
    read_trajectories,
)
from magvit_runtime.clips.video import DROP_TAIL, Cutting
from magvit_runtime.clips.video_frames import VideoReport
from magvit_runtime.errors import InputError
from magvit_runtime.files.names import as_text
from magvit_runtime.results.folders import is_address
from magvit_runtime.results.run_records import Refused, Share
from magvit_runtime.runs.inputs import Inputs


@dataclass(frozen=True)
class ClipOptions:
    """How clips are made of what a run reads.

    Attributes:
        style: How trajectories are drawn; a video must have its height and width.
        batch_size: Clips that run at once.
        part_size: Clips of a part; those of one trajectory, or batch of a video, stay together.
        cutting: What becomes of a video's last frames.
        columns: Names of a text table's columns, where it has no header.
        positions: What the columns of trajectories are taken for.
        cameras: See trajectories in space.
        variations: Varied copies of each trajectory, drawn after it.
    """

    style: StyleOptions
    batch_size: int = 1
    part_size: int = 128
    cutting: Cutting = DROP_TAIL
    columns: tuple[str, ...] = ()
    positions: Positions = "auto"
    cameras: Cameras = ONE_CAMERA
    variations: int = 0

    @property
    def clips_each(self) -> int:
        """Clips of a trajectory: a view of each camera, and as many of each varied copy."""
        return self.cameras.views * (1 + self.variations)

    def record(self) -> dict[str, Any]:
        """All of it by name, for the record of a run."""
        rest = {
            field.name: getattr(self, field.name)
            for field in dataclasses.fields(self)
            if field.name not in ("style", "cutting", "cameras")
        }
        camera = {"camera": self.cameras.first.fields(), "views": self.cameras.views}
        return asdict(self.style) | rest | camera | {"tail": self.cutting.tail}


@dataclass
class RunReport:
    """What a run met in its inputs.

    Attributes:
        trajectories: Of each file of trajectories, by name.
        videos: Of each video, by name.
        refused: Files of a folder that couldn't be read, or not to their end.
    """

    trajectories: dict[str, ReadReport] = field(default_factory=dict)
    videos: dict[str, VideoReport] = field(default_factory=dict)
    refused: list[Refused] = field(default_factory=list)


@dataclass(frozen=True)
class Part:
    """Some clips of a run.

    Attributes:
        name: Of its file.
        batches: The clips, drawn or decoded while this is gone through, once.
        drawing: How trajectories are drawn; None for other clips.
        noted: What drawing meets, filled meanwhile.
    """

    name: str
    batches: Iterator[ClipBatch]
    drawing: DrawingRecord | None = None
    noted: ReadReport = field(default_factory=ReadReport)


def run_parts(
    inputs: Inputs, share: Share, options: ClipOptions, report: RunReport
) -> Iterator[Part]:
    """The parts of one job, each as it was the last time.

    Args:
        inputs: What is read.
        share: The job's share.
        options: How clips are made.
        report: Filled meanwhile.

    Raises:
        InputError: The only file can't be read.
    """
    parts: Iterator[Part]
    for group, names in inputs.own_groups(share).items():
        if inputs.kind == "trajectories":
            chunks = trajectory_parts(inputs, group, names, options, report)
            parts = starmap(partial(trajectory_part, options=options), chunks)
        else:
            parts = _frame_parts(inputs, group, names, options, report)
        for number, part in enumerate(parts):
            if inputs.takes(share, group, number):
                yield part


def trajectory_parts(
    inputs: Inputs, group: int, names: tuple[str, ...], options: ClipOptions, report: RunReport
) -> Iterator[tuple[str, list[Trajectory]]]:
    """Trajectories of a group of files, as many as a part has at a time, with the part's name."""
    stream = chain.from_iterable(_trajectories(inputs, name, options, report) for name in names)
    size = max(1, options.part_size // options.clips_each)
    number = 0
    while chunk := list(islice(stream, size)):
        yield part_name(group, number), chunk
        number += 1


def trajectory_part(name: str, trajectories: list[Trajectory], options: ClipOptions) -> Part:
    """A part of these trajectories."""
    seen = ReadReport(kinds=Counter(one.kind for one in trajectories))
    style, cameras, noted = options.style.checked(), options.cameras, ReadReport()
    batches = drawn_batches(
        iter(trajectories), style, options.batch_size, cameras, noted, options.variations
    )
    drawing = drawing_record(options.style, options.positions, cameras, seen)
    return Part(name, batches, drawing, noted)


def part_name(group: int, number: int) -> str:
    """Name of a part's file: names in order are rows in order."""
    return f"part-{group:05}-{number:05}.parquet"


def _trajectories(
    inputs: Inputs, name: str, options: ClipOptions, report: RunReport
) -> Iterator[Trajectory]:
    own = report.trajectories[name] = ReadReport()
    try:
        with inputs.folder.local(name) as path:
            for one in read_trajectories(
                path, own, columns=options.columns, positions=options.positions
            ):
                yield dataclasses.replace(one, id=inputs.id_of(name, one.id))
    except InputError as error:
        _refuse(inputs, name, error, report)


def _frame_parts(
    inputs: Inputs, group: int, names: tuple[str, ...], options: ClipOptions, report: RunReport
) -> Iterator[Part]:
    """Parts of a video or an array; what isn't taken of one is passed over at the next."""
    (name,) = names
    batches = _frames(inputs, name, options, report)
    for number, first in enumerate(batches):
        part = _until(options.part_size, first, batches)
        yield Part(part_name(group, number), part)
        for _ in part:
            pass


def _until(size: int, first: ClipBatch, rest: Iterator[ClipBatch]) -> Iterator[ClipBatch]:
    """A batch and those after it, until there are so many clips."""
    clips = len(first.ids)
    yield first
    while clips < size and (batch := next(rest, None)):
        clips += len(batch.ids)
        yield batch


def _frames(
    inputs: Inputs, name: str, options: ClipOptions, report: RunReport
) -> Iterator[ClipBatch]:
    own = report.videos[name] = VideoReport()
    address = inputs.folder.address(name)
    try:
        with inputs.folder.local(name) as path:
            for batch in read_clips(
                path,
                options.style,
                ReadReport(),
                options.batch_size,
                cutting=options.cutting,
                video_report=own,
                columns=options.columns,
            ):
                ids = tuple(inputs.id_of(name, one) for one in batch.ids)
                places = batch.places
                if is_address(address):  # Of the video, and not of its copy here.
                    places = tuple(dataclasses.replace(one, source=address) for one in places)
                yield dataclasses.replace(batch, ids=ids, places=places)
    except InputError as error:
        _refuse(inputs, name, error, report)


def _refuse(inputs: Inputs, name: str, error: InputError, report: RunReport) -> None:
    """Goes on without a file of a folder; a source's only file can't be done without."""
    if not inputs.is_many:
        raise error
    report.refused.append(Refused(as_text(name), str(error)))
