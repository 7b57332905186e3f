"""Prints docs/performance.md's table: the native backend beside ONNX Runtime on the same graph.

    python docs/measure/native_speed.py BUNDLE [--clips 8] [--threads 2]
    python docs/measure/native_speed.py --smoke

Rendered Libras clips, noise, and single frames of both; the two backends take turns.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import psutil
from numpy.typing import NDArray
from smoke import SMOKE_HELP, tiny_bundle

from magvit_export.libras import load_libras
from magvit_runtime import open_bundle
from magvit_runtime.backends.backend import Session
from magvit_runtime.backends.opening import open_role
from magvit_runtime.benchmarks.statistics import ratio_estimate
from magvit_runtime.benchmarks.timing import time_interleaved
from magvit_runtime.clips.trajectories import DEFAULT_STYLE, Trajectory, render

BACKENDS = ("native", "onnxruntime")


def libras_clips(count: int) -> NDArray[np.uint8]:
    """uint8 [N, 17, 128, 128, 3], each clip of another class."""
    data = load_libras().spread(count)
    time = np.arange(data.xy.shape[1], dtype=np.float64)
    paths = [Trajectory(str(i), xy, time) for i, xy in enumerate(data.xy[:count].astype(float))]
    return render(paths, DEFAULT_STYLE)


def row(name: str, sessions: Mapping[str, Session], clips: NDArray[np.uint8]) -> str:
    inputs = [clip[None] for clip in clips]
    ids = {backend: [] for backend in sessions}

    def call(backend: str, frames: NDArray[np.uint8]) -> None:
        ids[backend].append(sessions[backend].run({"frames": frames}, ["ids"])[0])

    calls = {backend: lambda frames, b=backend: call(b, frames) for backend in sessions}
    seconds = time_interleaved(calls, inputs, repetitions=max(6, len(inputs)), warm_up=1)
    ratio = ratio_estimate(seconds["native"], seconds["onnxruntime"])
    changed = np.mean(np.stack(ids["native"]) != np.stack(ids["onnxruntime"]))
    medians = (f"{np.median(seconds[backend]):.2f} s" for backend in BACKENDS)
    interval = f"{ratio.value:.3f} ({ratio.low:.3f}–{ratio.high:.3f})"
    return f"| {name} | {' | '.join(medians)} | {interval} | {changed:.2%} |"


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("bundle", type=Path, nargs="?")
    parser.add_argument("--clips", type=int, default=8)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--smoke", action="store_true", help=SMOKE_HELP)
    options = parser.parse_args()
    with TemporaryDirectory() as folder:
        if options.smoke:
            options.bundle, options.clips = tiny_bundle(Path(folder)), 1
        print_table(options)


def print_table(options: argparse.Namespace) -> None:
    bundle = open_bundle(options.bundle)
    opened: dict[str, Session] = {}
    for backend in BACKENDS:
        before = psutil.Process().memory_info().rss
        opened[backend] = open_role(
            bundle, "encode", backend=backend, precision="fp32", threads=options.threads
        )[1]
        held = (psutil.Process().memory_info().rss - before) / 1e9
        print(f"{backend}: {held:.2f} GB once loaded")
    libras = libras_clips(options.clips)
    noise = np.random.default_rng(0).integers(0, 256, libras[:2].shape, np.uint8)
    print("| clips | native | ONNX Runtime | ratio | tokens that differ |")
    print("|---|---|---|---|---|")
    print(row("rendered Libras", opened, libras), flush=True)
    print(row("noise", opened, noise), flush=True)
    print(row("one frame of Libras", opened, libras[:, -1:]), flush=True)
    print(row("one frame of noise", opened, noise[:, -1:]), flush=True)


if __name__ == "__main__":
    main()
