"""Makes the bundle, the reference and engines; prints the time of each as a line of JSON.

python kernels/gpu_check/prepare.py bundle BUNDLE            full size, generated weights
python kernels/gpu_check/prepare.py reference BUNDLE NPZ     float32 latents of three clips
python kernels/gpu_check/prepare.py engine BUNDLE FLAVOUR    an FP16 engine with our plugins
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import numpy as np

from magvit_runtime.bundle.manifest import Precision
from magvit_runtime.types import Flavour

MODEL = "open-magvit2-video-128"
PRECISIONS: tuple[Precision, ...] = ("fp32", "fp16")
CLIPS = 3
PROFILE = "1/4/8"


def export_bundle(bundle: Path) -> None:
    """A bundle of the released size, in float32 and in half precision."""
    from magvit_export.catalog import find_model
    from magvit_export.exporting import export_model

    for precision in PRECISIONS:
        start = time.perf_counter()
        export_model(
            find_model(MODEL), bundle, weights="seeded", roles=["encode"], precision=precision
        )
        seconds = round(time.perf_counter() - start, 1)
        print(json.dumps({"export": precision, "seconds": seconds}), flush=True)


def write_reference(bundle: Path, path: Path) -> None:
    """Drawn, noisy and grey clips, and their latents by the native backend on the CPU."""
    from magvit_runtime import open_bundle
    from magvit_runtime.backends.native.cpu.session import CpuSession
    from magvit_runtime.clips.samples import verification_clips

    opened = open_bundle(bundle)
    _, graph = opened.graph("encode", "fp32")
    clips = verification_clips(graph.inputs[0].shape[1:])[:CLIPS]
    path_of_graph = opened.verified_graph(graph)
    with CpuSession(path_of_graph, precision="fp32", threads=None, reason="gpu-check") as session:
        start = time.perf_counter()
        (latents,) = session.run({graph.inputs[0].name: clips}, ["latents"])
        seconds = round(time.perf_counter() - start, 1)
    print(json.dumps({"reference": "native, on the CPU", "clips": CLIPS, "seconds": seconds}))
    np.savez(path, clips=clips, latents=latents)


def build(bundle: Path, flavour: Flavour) -> None:
    """An engine for this GPU, for batches of 1 to 8."""
    from magvit_export.engines import BuildOptions, build_engine, plan_build
    from magvit_runtime import open_bundle
    from magvit_runtime.hardware.machine import Machine

    opened = open_bundle(bundle)
    options = BuildOptions(flavour=flavour, profile=PROFILE)
    record = build_engine(opened, plan_build(opened, options, Machine())).engine.record
    facts = {"build_seconds": record.build_seconds, "plugin_layers": record.plugin_layers}
    print(json.dumps({"way": f"{flavour} build", **facts, "passed": bool(record.plugin_layers)}))


if __name__ == "__main__":
    action, *rest = sys.argv[1:]
    if action == "bundle":
        export_bundle(Path(rest[0]))
    elif action == "reference":
        write_reference(Path(rest[0]), Path(rest[1]))
    else:
        build(Path(rest[0]), "tensorrt" if rest[1] == "tensorrt" else "tensorrt-rtx")
