"""`make gpu-check`: what this project does on the GPU of this machine, as one JSON and one table.

    python kernels/gpu_check.py --output build/gpu-check [--bundle DIR]

Steps, each on its own: a failure is recorded, and the next step runs all the same.
  kernels   builds them with nvcc, compares them with the CPU operators on fresh random inputs of
            the real sizes, and their bandwidth with a device-to-device copy
  engines   for each TensorRT flavour that is installed: builds an FP16 engine with our plugins,
            compares its latents with ONNX Runtime's float32 ones, and times it
Without a GPU it says so, runs nothing, and succeeds.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
BATCHES = (1, 4, 8)
REPEATS = 50

Report = dict[str, Any]


def main() -> None:
    """Runs all steps and writes gpu_check.json and gpu_check.md."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default=ROOT / "build" / "gpu-check")
    parser.add_argument("--bundle", type=Path, help="bundle with fp32 and fp16 encoders")
    arguments = parser.parse_args()
    gpu = gpu_name()
    if gpu is None:
        print("gpu-check: no NVIDIA GPU on this machine (nvidia-smi finds none): nothing was run")
        return
    output: Path = arguments.output
    output.mkdir(parents=True, exist_ok=True)
    report: Report = {
        "gpu": gpu,
        "machine": platform.platform(),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "steps": {
            "kernels": run_step(lambda: check_kernels(output)),
            "engines": run_step(lambda: check_engines(output, arguments.bundle)),
        },
    }
    (output / "gpu_check.json").write_text(json.dumps(report, indent=1))
    table = markdown(report)
    (output / "gpu_check.md").write_text(table)
    print(table)
    sys.exit(0 if all(step["passed"] for step in report["steps"].values()) else 1)


def gpu_name() -> str | None:
    """Name, compute capability and driver of the first GPU; None where there is none."""
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return None
    query = "--query-gpu=name,compute_cap,driver_version"
    listing = subprocess.run(
        [tool, query, "--format=csv,noheader"], capture_output=True, text=True, check=False
    )
    lines = listing.stdout.splitlines()
    return lines[0] if listing.returncode == 0 and lines else None


def run_step(step: Callable[[], Report]) -> Report:
    """A step's report, or why it failed."""
    start = time.perf_counter()
    try:
        report = step()
    except Exception as error:  # Whatever went wrong is what the report is for.
        report = {"passed": False, "error": f"{type(error).__name__}: {error}"}
        report["traceback"] = traceback.format_exc()
        if isinstance(error, subprocess.CalledProcessError):
            report["output"] = f"{error.stdout}\n{error.stderr}"[-4000:]
    return report | {"seconds": round(time.perf_counter() - start, 1)}


def check_kernels(output: Path) -> Report:
    """Builds and runs `gpu_check`, which compares and times every kernel."""
    build = output / "cmake"
    run("cmake", "-S", str(ROOT), "-B", str(build), "-DMAGVIT_DOWNLOAD_HEADERS=ON")
    run("cmake", "--build", str(build), "--parallel")
    run("cmake", "--build", str(build), "--target", "gpu_check")
    checked = subprocess.run(
        [build / "kernels" / "gpu_check"], capture_output=True, text=True, check=False
    )
    report: Report = json.loads(checked.stdout)
    return report | {"passed": report.get("passed", False)}


def check_engines(output: Path, bundle_path: Path | None) -> Report:
    """Builds and runs an engine with each installed flavour of TensorRT."""
    sys.path[:0] = [str(ROOT / "export"), str(ROOT / "runtime")]
    libraries = output / "cmake" / "lib"
    if libraries.is_dir():
        os.environ["MAGVIT_LIBRARY_DIR"] = str(libraries)
    from magvit_runtime.engines import installed_flavours

    flavours = installed_flavours()
    if not flavours:
        return {"passed": True, "skipped": "no flavour of TensorRT is installed"}
    with tempfile.TemporaryDirectory() as folder:
        path = bundle_path or export_seeded(Path(folder) / "bundle")
        reports = {
            flavour: run_step(lambda flavour=flavour: check_flavour(path, flavour))
            for flavour in flavours
        }
    return {"passed": all(r["passed"] for r in reports.values()), "flavours": reports}


def export_seeded(path: Path) -> Path:
    """A full-size bundle with generated weights, in float32 and float16."""
    from magvit_export.catalog import find_model
    from magvit_export.exporting import export_tokenizer

    for precision in ("fp32", "fp16"):
        export_tokenizer(
            find_model("open-magvit2-video-128"), path, weights="seeded", precision=precision
        )
    return path


def check_flavour(path: Path, flavour: str) -> Report:
    """One flavour's engine: built, compared with float32 on the CPU, timed at each batch size."""
    import numpy as np

    from magvit_export.engines import BuildOptions, build_engine, plan_build
    from magvit_runtime import Tokenizer, open_bundle
    from magvit_runtime.engines.finding import this_machine
    from magvit_runtime.parity import compare_latents
    from magvit_runtime.verification_clips import verification_clips

    bundle = open_bundle(path)
    options = BuildOptions(flavour=flavour, profile=f"1/4/{max(BATCHES)}")
    built = build_engine(bundle, plan_build(bundle, options, this_machine())).engine.record
    with Tokenizer.open(path, backend="onnxruntime", precision="fp32") as reference:
        clips = verification_clips(reference.clip_shape)
        expected = reference.latents(clips)
    times: dict[str, dict[str, float]] = {}
    with Tokenizer.open(path, backend=flavour, batch_size=max(BATCHES)) as tokenizer:
        agreement = compare_latents(tokenizer.latents(clips), expected)
        for batch in BATCHES:
            frames = np.repeat(clips[:1], batch, axis=0)
            times[str(batch)] = milliseconds(lambda frames=frames: tokenizer(frames))
    return {
        "passed": agreement.passes("fp16"),
        "version": built.key.version,
        "build_seconds": built.build_seconds,
        "plugin_layers": built.plugin_layers,
        "rms_error_sigma": agreement.rms,
        "changed_tokens": f"{agreement.changed_tokens} of {agreement.tokens}",
        "bits_outside_margin": agreement.outside_margin,
        "milliseconds_a_batch": times,
    }


def milliseconds(call: Callable[[], object]) -> dict[str, float]:
    """Wall time of a call, copies to and from the device included."""
    for _ in range(5):
        call()
    times = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        call()
        times.append((time.perf_counter() - start) * 1e3)
    return {"median": round(statistics.median(times), 3), "min": round(min(times), 3)}


def markdown(report: Report) -> str:
    """The report as a Markdown table, ready for docs/benchmarks/."""
    lines = [f"{report['gpu']}, {report['date']}", "", "| step | result |", "|---|---|"]
    for name, step in report["steps"].items():
        state = "passed" if step["passed"] else f"FAILED: {step.get('error', 'see the JSON')}"
        lines.append(f"| {name} | {step.get('skipped', state)} ({step['seconds']} s) |")
    for check in report["steps"]["kernels"].get("checks", []):
        what = f"{check['operator']} {check['dtype']} {check['layout']} {check['shape']}"
        speed = f"{check['microseconds']} µs, {check['of_copy']:.0%} of copy"
        lines.append(f"| {what} | error {check['max_error']:.1e}, {speed} |")
    for flavour, result in report["steps"]["engines"].get("flavours", {}).items():
        if not result["passed"] and "error" in result:
            lines.append(f"| {flavour} | {result['error']} |")
            continue
        times = ", ".join(
            f"batch {batch}: {time['median']} ms"
            for batch, time in result["milliseconds_a_batch"].items()
        )
        lines.append(f"| {flavour} {result['version']} | {times}; {result['changed_tokens']} |")
    return "\n".join(lines)


def run(*command: str) -> None:
    """Runs a command; its output is kept for the report if it fails."""
    subprocess.run(command, capture_output=True, text=True, check=True)


if __name__ == "__main__":
    main()
