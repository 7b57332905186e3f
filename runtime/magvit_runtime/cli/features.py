"""`magvit features`: trajectories, frames or a video to continuous features."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from magvit_runtime.bundle.manifest import Precision
from magvit_runtime.bundle.weights_label import weights_label
from magvit_runtime.cli.columns import ColumnNames
from magvit_runtime.cli.outcome import Outcome
from magvit_runtime.cli.places import BundleArgument
from magvit_runtime.cli.progress import progress_bar
from magvit_runtime.cli.space import DEFAULT_SPACE, SpaceOptions, check_space, with_space
from magvit_runtime.cli.videos import is_video, with_video
from magvit_runtime.clips.drawing import drawing_record
from magvit_runtime.clips.sources import read_clips
from magvit_runtime.clips.trajectories import (
    DEFAULT_STYLE,
    ReadReport,
    StyleOptions,
    is_trajectory_file,
)
from magvit_runtime.clips.video import Cutting
from magvit_runtime.clips.video_frames import VideoReport
from magvit_runtime.features import FeatureExtractor, Pool
from magvit_runtime.files.outputs import check_outputs
from magvit_runtime.results.feature_files import feature_writer


def features(
    bundle: BundleArgument,
    source: Path,
    *,
    output: Annotated[Path, Parameter(alias="-o")],
    pool: Pool = "none",
    style: Annotated[StyleOptions, Parameter(name="*")] = DEFAULT_STYLE,
    columns: ColumnNames | None = None,
    space: Annotated[SpaceOptions, Parameter(name="*")] = DEFAULT_SPACE,
    tail: Literal["drop", "pad"] = "drop",
    backend: str = "auto",
    precision: Precision | None = None,
    threads: int | None = None,
    batch_size: int = 1,
) -> Outcome:
    """Turns trajectories, frames or a video into continuous features.

    Args:
        bundle: Directory of the exported model, or hf://OWNER/NAME@REVISION on the hub.
        source: Trajectories (CSV and its like, JSON, Parquet or npz), uint8 frames
            [N, T, H, W, 3] or images [N, H, W, 3] (.npy), or a video.
        output: File to write: .parquet, .npz, or .npy for the features alone.
        pool: none keeps all features of a clip, mean gives one vector.
        style: How trajectories are drawn. A video must have the height and width, and is cut every
            `frames` frames. The model's own size needn't be given: clips are fitted to it.
        columns: Names of a text table's columns, where it has no header, such as frame,id,x,y.
        space: What the columns are, and what sees trajectories in space.
        tail: What becomes of a video's last frames that fill no clip: drop leaves them out, pad
            repeats the last frame.
        backend: What runs the model; auto takes the best of this machine.
        precision: Which of the bundle's graphs; the most precise by default.
        threads: CPU threads; the backend's own choice by default.
        batch_size: Clips that run at once.
    """
    check_space(source, space)
    check_outputs(output, inputs=(bundle, source, space.camera))
    positions, cameras = space.positions or "auto", space.cameras()
    report, video = ReadReport(), VideoReport()
    clips = 0
    shape: tuple[int, ...] = ()
    with FeatureExtractor.open(
        bundle, backend=backend, precision=precision, threads=threads, batch_size=batch_size
    ) as extractor:
        batches = read_clips(
            source,
            style,
            report,
            batch_size,
            cutting=Cutting(tail),
            video_report=video,
            columns=columns or (),
            positions=positions,
            cameras=cameras,
        )
        drawing = None
        if is_trajectory_file(source):
            drawing = drawing_record(style, positions, cameras, report)
        with (
            feature_writer(output, extractor.bundle, pool, drawing) as writer,
            progress_bar("clips") as advance,
        ):
            for batch in batches:
                found = extractor(batch.frames, pool)
                writer.write(batch.ids, batch.labels, found)
                shape = found.shape[1:]
                clips += len(batch.ids)
                advance(len(batch.ids))
        capabilities = extractor.capabilities
    label = weights_label(extractor.bundle)
    facts = {
        "clips": clips,
        "shape": shape,
        "output": str(output),
        "weights": label,
        "backend": capabilities.backend,
        "precision": capabilities.precision,
        "reason": capabilities.reason,
        "problems": [asdict(problem) for problem in report.problems],
    }
    text = (
        f"{clips} clips, features of {list(shape)} each -> {output}\n"
        f"{extractor.bundle.manifest.model}, {label}; {capabilities.backend} "
        f"{capabilities.version} on {capabilities.device} ({capabilities.reason})"
    )
    if report.counts:
        text += "\n" + report.summary()
    outcome = with_space(Outcome(facts, text), cameras, report)
    return with_video(outcome, tail, video) if is_video(source) else outcome
