"""`magvit tune`: which way to run a bundle is the fastest here."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

import msgspec
import numpy as np

from magvit_runtime.backends.opening import check_options
from magvit_runtime.benchmarks.tuning import Timing
from magvit_runtime.benchmarks.tuning import tune as tune_bundle
from magvit_runtime.bundle.reading import open_bundle
from magvit_runtime.bundle.tuning_file import TUNING_FILE
from magvit_runtime.cli.numbers import in_range
from magvit_runtime.cli.outcome import Outcome
from magvit_runtime.cli.progress import progress_bar
from magvit_runtime.clips.samples import drawing_style, usual_shape, verification_clips
from magvit_runtime.clips.sources import read_clips
from magvit_runtime.clips.trajectories import ReadReport
from magvit_runtime.files.outputs import check_outputs

MOST_CLIPS = 4


def tune(
    bundle: Path,
    *,
    clips: Path | None = None,
    threads: int | None = None,
    repetitions: int = 5,
) -> Outcome:
    """Times every backend and engine of a bundle here; auto then takes the fastest.

    The result lies in tuning.json beside the bundle, machine by machine. It holds for the graphs
    and engines that were timed, byte for byte.

    Args:
        bundle: Directory of the exported model.
        clips: What production will see; the first four are encoded. Trajectories (.csv, .parquet,
            .npz), uint8 frames [N, T, H, W, 3] (.npy), or a video; a drawn spiral by default.
        threads: CPU threads of one run; each backend's own choice by default.
        repetitions: How often each of them encodes each clip.
    """
    in_range("--repetitions", repetitions, 1)
    check_options("auto", threads)
    check_outputs(bundle / TUNING_FILE, inputs=(clips,))
    opened = open_bundle(bundle)
    _, graph = opened.graph("encode")
    shape = usual_shape(graph.inputs[0].shape[1:])
    if clips is None:
        frames = verification_clips(shape)[:1]
    else:
        batches = read_clips(clips, drawing_style(shape), ReadReport(), 1)
        frames = np.concatenate([batch.frames for batch in islice(batches, MOST_CLIPS)])
        frames = frames.reshape(-1, *frames.shape[-len(shape) :])
    with progress_bar("rounds") as advance:
        timings = tune_bundle(
            opened, frames, threads=threads, repetitions=repetitions, advance=advance
        )
    lines = [_line(timing) for timing in timings]
    lines.append(f"{timings[0].subject} is what auto takes here: {bundle / TUNING_FILE}")
    facts = {"bundle": str(bundle), "options": msgspec.to_builtins(timings)}
    return Outcome(facts, "\n".join(lines))


def _line(timing: Timing) -> str:
    seconds = timing.seconds
    if seconds is None:
        return f"{timing.subject}: not timed: {timing.why_not}"
    return (
        f"{timing.subject}: {seconds.value * 1000:.1f} ms a clip "
        f"({seconds.low * 1000:.1f} to {seconds.high * 1000:.1f})"
    )
