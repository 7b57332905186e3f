"""`magvit tune`: which way to run a bundle is the fastest here."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

import msgspec
import numpy as np

from magvit_runtime.backends.opening import check_options
from magvit_runtime.benchmarks.tuning import Timing
from magvit_runtime.benchmarks.tuning import tune as tune_bundle
from magvit_runtime.bundle.manifest import Role, TensorSpec
from magvit_runtime.bundle.reading import open_bundle
from magvit_runtime.bundle.tuning_file import TUNING_FILE
from magvit_runtime.cli.numbers import in_range
from magvit_runtime.cli.outcome import Outcome
from magvit_runtime.cli.places import OwnBundle
from magvit_runtime.cli.progress import progress_bar
from magvit_runtime.cli.videos import is_video, with_video
from magvit_runtime.clips.sample_ids import usual_grid, verification_ids
from magvit_runtime.clips.samples import drawing_style, usual_shape, verification_clips
from magvit_runtime.clips.sources import read_clips
from magvit_runtime.clips.trajectories import ReadReport
from magvit_runtime.clips.video_frames import VideoReport
from magvit_runtime.files.outputs import check_outputs
from magvit_runtime.results.token_files import read_tokens
from magvit_runtime.types import Array

MOST_CLIPS = 4


def tune(
    bundle: OwnBundle,
    *,
    role: Role = "encode",
    clips: Path | None = None,
    threads: int | None = None,
    repetitions: int = 5,
) -> Outcome:
    """Times every backend and engine of a bundle here; auto then takes the fastest.

    The result lies in tuning.json beside the bundle, machine by machine. It holds for the graphs
    and engines that were timed, byte for byte.

    Args:
        bundle: Directory of the exported model.
        role: What is timed: encode, decode, features, classify or classify-clips.
        clips: What production will see; the first four are run. To encode: trajectories (.csv,
            .parquet, .npz), uint8 frames [N, T, H, W, 3] (.npy), or a video; a drawn spiral by
            default. Of ids: a token file (.parquet, .npz); seeded ids by default.
        threads: CPU threads of one run; each backend's own choice by default.
        repetitions: How often each of them runs each clip.
    """
    in_range("--repetitions", repetitions, 1)
    check_options("auto", threads)
    check_outputs(bundle / TUNING_FILE, inputs=(clips,))
    opened = open_bundle(bundle)
    _, graph = opened.graph(role)
    given = graph.inputs[0]
    video = VideoReport()
    inputs = _ids(given, clips) if given.kind == "ids" else _frames(given, clips, video)
    with progress_bar("rounds") as advance:
        timings = tune_bundle(
            opened, inputs, role=role, threads=threads, repetitions=repetitions, advance=advance
        )
    lines = [_line(timing) for timing in timings]
    lines.append(f"{timings[0].subject} is what auto takes here: {bundle / TUNING_FILE}")
    facts = {"bundle": str(bundle), "role": role, "options": msgspec.to_builtins(timings)}
    outcome = Outcome(facts, "\n".join(lines))
    return with_video(outcome, "drop", video) if clips and is_video(clips) else outcome


def _frames(given: TensorSpec, clips: Path | None, video: VideoReport) -> Array:
    shape = usual_shape(given.shape[1:])
    if clips is None:
        return verification_clips(shape)[:1]
    batches = read_clips(clips, drawing_style(shape), ReadReport(), 1, video_report=video)
    # One more than is run, so that a video of no more is read, and reported, to its end.
    read = [batch.frames for batch in islice(batches, MOST_CLIPS + 1)]
    frames = np.concatenate(read[:MOST_CLIPS])
    return frames.reshape(-1, *frames.shape[-len(shape) :])


def _ids(given: TensorSpec, tokens: Path | None) -> Array:
    if tokens is not None:
        return read_tokens(tokens).tokens[:MOST_CLIPS]
    assert given.maximum is not None  # Of ids, every manifest says it.
    return verification_ids(usual_grid(given.shape[1:]), int(given.maximum) + 1)[:1]


def _line(timing: Timing) -> str:
    seconds = timing.seconds
    if seconds is None:
        return f"{timing.subject}: not timed: {timing.why_not}"
    return (
        f"{timing.subject}: {seconds.value * 1000:.1f} ms a clip "
        f"({seconds.low * 1000:.1f} to {seconds.high * 1000:.1f})"
    )
