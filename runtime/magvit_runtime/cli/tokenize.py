"""`magvit tokenize`: trajectories, frames or a video to token ids."""

from __future__ import annotations

from dataclasses import asdict
from itertools import tee
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from magvit_runtime.bundle.manifest import Precision
from magvit_runtime.bundle.weights_label import weights_label
from magvit_runtime.cli.columns import ColumnNames
from magvit_runtime.cli.devices import chosen_devices
from magvit_runtime.cli.folder_runs import (
    DEFAULT_RUN,
    RunOptions,
    folder_run,
    refuse_run,
)
from magvit_runtime.cli.outcome import Outcome
from magvit_runtime.cli.places import BundleArgument, OutputPlace, PlaceArgument, is_run
from magvit_runtime.cli.progress import progress_bar
from magvit_runtime.cli.space import DEFAULT_SPACE, SpaceOptions, check_space, with_space
from magvit_runtime.cli.tokenize_folder import DEFAULT_CLUSTER, ClusterOptions, tokenize_folder
from magvit_runtime.cli.videos import cutting_for, is_video, with_video
from magvit_runtime.clips.drawing import drawing_record
from magvit_runtime.clips.sources import read_clips
from magvit_runtime.clips.trajectories import (
    DEFAULT_STYLE,
    ReadReport,
    StyleOptions,
    is_trajectory_file,
)
from magvit_runtime.clips.video import Cutting, Tail
from magvit_runtime.clips.video_frames import VideoReport
from magvit_runtime.files.outputs import check_outputs
from magvit_runtime.results.token_files import token_writer
from magvit_runtime.runs.parts import ClipOptions
from magvit_runtime.tokenizer import Tokenizer


def tokenize(
    bundle: BundleArgument,
    source: PlaceArgument,
    *,
    output: OutputPlace,
    style: Annotated[StyleOptions, Parameter(name="*")] = DEFAULT_STYLE,
    columns: ColumnNames | None = None,
    space: Annotated[SpaceOptions, Parameter(name="*")] = DEFAULT_SPACE,
    tail: Tail = "drop",
    backend: str = "auto",
    precision: Precision | None = None,
    threads: int | None = None,
    batch_size: int = 1,
    device: str | None = None,
    run: Annotated[RunOptions, Parameter(name="*")] = DEFAULT_RUN,
    cluster: Annotated[ClusterOptions, Parameter(name="*")] = DEFAULT_CLUSTER,
) -> Outcome:
    """Turns trajectories, frames or a video into token ids.

    Args:
        bundle: Directory of the exported model, or hf://OWNER/NAME@REVISION on the hub.
        source: Trajectories (CSV and its like, JSON, Parquet or npz), uint8 frames
            [N, T, H, W, 3] (.npy), or a video; or, for a folder of tokens, a folder of these or
            the address of one, as s3://bucket/folder.
        output: Token file to write: .parquet or .npz. Or a folder, or the address of one: Parquet
            files in it take the tokens part by part, so that a run which is stopped can go on.
        style: How trajectories are drawn. A video must have the height and width, and is cut every
            `frames` frames.
        columns: Names of a text table's columns, where it has no header, such as frame,id,x,y.
        space: What the columns are, and what sees trajectories in space.
        tail: What becomes of a video's last frames that fill no clip: drop leaves them out, pad
            repeats the last frame, short makes a shorter clip of them.
        backend: What runs the model; auto takes the best of this machine.
        precision: Which of the bundle's encoders; the most precise by default.
        threads: CPU threads; the backend's own choice by default.
        batch_size: Clips that run at once.
        device: cpu, cuda:1, or the UUID of a GPU or of its part (MIG); several with commas between,
            or all GPUs, share the clips.
        run: How a folder is written.
        cluster: Which processes make a folder.
    """
    if is_run(source, output):
        opening = {
            "backend": backend,
            "precision": precision,
            "threads": threads,
            "batch_size": batch_size,
            **chosen_devices(device),
        }
        options = ClipOptions(
            style,
            batch_size,
            cutting=Cutting(tail),
            columns=columns or (),
            positions=space.positions or "auto",
            cameras=space.cameras(),
        )
        cluster = cluster.checked()
        work = folder_run(bundle, source, output, options, run, space)
        return tokenize_folder(work, bundle, opening, cluster)
    refuse_run(run, DEFAULT_RUN)
    refuse_run(cluster, DEFAULT_CLUSTER)
    source, output = Path(source), Path(output)
    check_space(source, space)
    check_outputs(output, inputs=(bundle, source, space.camera))
    positions, cameras = space.positions or "auto", space.cameras()
    report, video = ReadReport(), VideoReport()
    clips = 0
    with Tokenizer.open(
        bundle,
        backend=backend,
        precision=precision,
        threads=threads,
        batch_size=batch_size,
        **chosen_devices(device),
    ) as tokenizer:
        cutting = cutting_for(tail, tokenizer)
        batches = read_clips(
            source,
            style,
            report,
            batch_size,
            cutting=cutting,
            video_report=video,
            columns=columns or (),
            positions=positions,
            cameras=cameras,
        )
        drawing = None
        if is_trajectory_file(source):
            drawing = drawing_record(style, positions, cameras, report)
        cut = tail if is_video(source) else None
        with (
            token_writer(output, tokenizer.bundle, cut, drawing) as writer,
            progress_bar("clips") as advance,
        ):
            # Several devices read ahead: what is written is the batch whose ids have come.
            read, ahead = tee(batches)
            for ids in tokenizer.stream(batch.frames for batch in ahead):
                batch = next(read)
                writer.write(batch.ids, batch.labels, ids, batch.places)
                clips += len(batch.ids)
                advance(len(batch.ids))
        capabilities = tokenizer.capabilities
    label = weights_label(tokenizer.bundle)
    facts = {
        "clips": clips,
        "output": str(output),
        "weights": label,
        "backend": capabilities.backend,
        "precision": capabilities.precision,
        "reason": capabilities.reason,
        "problems": [asdict(problem) for problem in report.problems],
    }
    text = (
        f"{clips} clips -> {output}\n"
        f"{tokenizer.bundle.manifest.model}, {label}; {capabilities.backend} "
        f"{capabilities.version} on {capabilities.device} ({capabilities.reason})"
    )
    if report.counts:
        text += "\n" + report.summary()
    outcome = with_space(Outcome(facts, text), cameras, report)
    return with_video(outcome, tail, video) if is_video(source) else outcome
