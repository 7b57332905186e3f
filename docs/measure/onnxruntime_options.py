"""Times ONNX Runtime's own settings on a CPU: each against its defaults, in turn.

    python docs/measure/onnxruntime_options.py BUNDLE [--repetitions 6] [--clips 2]
    python docs/measure/onnxruntime_options.py --smoke

Prints docs/performance.md's table. "inlined" is the graph with its functions replaced by their
definitions beforehand. "opset 23" is the same graph converted to that opset.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import onnx
import onnxruntime
from native_speed import libras_clips
from numpy.typing import NDArray
from onnx.inliner import inline_local_functions
from smoke import SMOKE_HELP, tiny_bundle

from magvit_runtime import open_bundle
from magvit_runtime.benchmarks.statistics import ratio_estimate
from magvit_runtime.benchmarks.timing import time_interleaved
from magvit_runtime.hardware.cpu import usable_cpus

NEWER_OPSET = 23

Options = onnxruntime.SessionOptions


def one_thread(options: Options) -> None:
    options.intra_op_num_threads = 1


def all_threads(options: Options) -> None:
    options.intra_op_num_threads = usable_cpus()


def no_spinning(options: Options) -> None:
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")


def no_arena(options: Options) -> None:
    options.enable_cpu_mem_arena = False


def no_memory_pattern(options: Options) -> None:
    options.enable_mem_pattern = False


def parallel_nodes(options: Options) -> None:
    options.execution_mode = onnxruntime.ExecutionMode.ORT_PARALLEL


def basic_optimizations(options: Options) -> None:
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC


SETTINGS: dict[str, Callable[[Options], None]] = {
    "defaults": lambda _: None,
    "1 thread": one_thread,
    "a thread for each CPU": all_threads,
    "threads don't spin": no_spinning,
    "no arena": no_arena,
    "no memory pattern": no_memory_pattern,
    "parallel execution": parallel_nodes,
    "basic optimisations only": basic_optimizations,
}


def session(graph: Path, setting: Callable[[Options], None]) -> onnxruntime.InferenceSession:
    options = Options()
    options.log_severity_level = 3
    setting(options)
    return onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])


def rewritten(graph: Path, folder: Path) -> dict[str, Path]:
    """The same graph in other forms; weights are kept beside each."""
    inlined = inline_local_functions(onnx.load(graph))
    forms = {"inlined": inlined}
    forms[f"opset {NEWER_OPSET}"] = onnx.version_converter.convert_version(inlined, NEWER_OPSET)
    paths = {}
    for name, model in forms.items():
        paths[name] = folder / f"{name.replace(' ', '')}.onnx"
        onnx.save(
            model, paths[name], save_as_external_data=True, location=f"{paths[name].name}.data"
        )
    return paths


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("bundle", type=Path, nargs="?")
    parser.add_argument("--repetitions", type=int, default=6)
    parser.add_argument("--clips", type=int, default=2)
    parser.add_argument("--smoke", action="store_true", help=SMOKE_HELP)
    arguments = parser.parse_args()
    with TemporaryDirectory() as folder:
        if arguments.smoke:
            arguments.bundle = tiny_bundle(Path(folder))
            arguments.repetitions = arguments.clips = 1
        bundle = open_bundle(arguments.bundle)
        graph = bundle.verified_graph(bundle.graph("encode", "fp32")[1])
        sessions = {name: session(graph, setting) for name, setting in SETTINGS.items()}
        for name, path in rewritten(graph, Path(folder)).items():
            sessions[name] = session(path, SETTINGS["defaults"])

        def call(name: str) -> Callable[[NDArray[np.uint8]], object]:
            return lambda frames: sessions[name].run(["ids"], {"frames": frames})

        seconds = time_interleaved(
            {name: call(name) for name in sessions},
            [clip[None] for clip in libras_clips(arguments.clips)],
            repetitions=arguments.repetitions,
        )
    print("| setting | median | times the defaults |")
    print("|---|---|---|")
    for name, taken in seconds.items():
        ratio = ratio_estimate(taken, seconds["defaults"])
        interval = f"{ratio.value:.2f} ({ratio.low:.2f}–{ratio.high:.2f})"
        print(f"| {name} | {np.median(taken):.2f} s | {interval} |")


if __name__ == "__main__":
    main()
