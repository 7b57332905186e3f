"""Times one way to run the encoder, and compares its latents and ids with the reference's.

    python kernels/gpu_check/measure.py WAY PRECISION BUNDLE REFERENCE

Two times: compute, by CUDA events, from frames to ids and latents, both on the GPU; and host to
host, by the clock, from frames in NumPy to ids and latents in NumPy. Prints one line of JSON per
batch size, as soon as it is known.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import subprocess
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from ways import Frames, NotHereError, Way, open_way

from magvit_runtime import open_bundle
from magvit_runtime.agreement.signs import compare_latents
from magvit_runtime.bundle.manifest import Precision

BATCHES = (1, 8)
WARM_UPS, REPEATS, SECONDS = 10, 100, 10.0


def main() -> None:
    """Measures each batch size; a failure is also a line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("way")
    parser.add_argument("precision", choices=("fp16", "tf32", "fp32"))
    parser.add_argument("bundle", type=Path)
    parser.add_argument("reference", type=Path)
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    given = parser.parse_args()
    stored = np.load(given.reference)
    before = gpu_state().get("memory_mib", 0)
    start = time.perf_counter()
    try:
        way = open_way(given.way, given.precision, open_bundle(given.bundle), given.device)
    except NotHereError as reason:
        print(json.dumps({"not_run": str(reason)}))
        return
    opened = round(time.perf_counter() - start, 2)
    for batch in BATCHES:
        row = {"way": given.way, "precision": given.precision, "batch": batch}
        row |= {"version": way.version, "open_seconds": opened}
        chosen = np.arange(batch) % len(stored["clips"])
        clips, latents = stored["clips"][chosen], stored["latents"][chosen]
        try:
            row |= measure(way, clips, latents, given.precision)
            state = gpu_state(partial(way.run, clips))
            state["memory_mib"] = state.get("memory_mib", 0) - before
            row["gpu"] = state
        except Exception as error:  # The next size may work: most failures are a lack of memory.
            row |= {"passed": False, "error": f"{type(error).__name__}: {error}"}
        print(json.dumps(row), flush=True)


def measure(
    way: Way, frames: Frames, expected: NDArray[Any], precision: Precision
) -> dict[str, Any]:
    """Times a batch and compares its latents with the reference's."""
    start = time.perf_counter()
    ids, latents = way.run(frames)
    first = time.perf_counter() - start
    agreement = compare_latents(latents.astype(np.float32), expected, ids)
    for _ in range(WARM_UPS):
        way.run(frames)

    def host_seconds() -> float:
        start = time.perf_counter()
        way.run(frames)
        return time.perf_counter() - start

    compute_seconds = way.compute_seconds
    return {
        "passed": agreement.passes(precision),
        "compute": None if compute_seconds is None else _times(lambda: compute_seconds(frames)),
        "host_to_host": _times(host_seconds),
        "first_seconds": round(first, 2),
        "rms_error_sigma": float(f"{agreement.rms:.2e}"),
        "changed_tokens": f"{agreement.changed_tokens} of {agreement.tokens}",
        "bits_outside_margin": agreement.outside_margin,
        "wrong_ids": agreement.wrong_ids,
    }


def gpu_state(run: Callable[[], object] = lambda: None) -> dict[str, int]:
    """Memory in use, SM clock and temperature of the first GPU; empty if there is none.

    Args:
        run: Called again and again while the driver's tool looks, so that it sees the GPU at work.
    """
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return {}
    query = "--query-gpu=memory.used,clocks.sm,temperature.gpu"
    command = (tool, query, "--format=csv,noheader,nounits")
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        while process.poll() is None:
            run()
        listing, _ = process.communicate()
    values = listing.partition("\n")[0].split(", ")
    names = ("memory_mib", "sm_mhz", "celsius")
    facts = zip(names, values, strict=False)  # Some machines show none of them.
    return {name: int(value) for name, value in facts if value.isdigit()}


def _times(once: Callable[[], float]) -> dict[str, float]:
    """Median and least milliseconds of up to `REPEATS` runs in `SECONDS`, at least three."""
    milliseconds: list[float] = []
    begin = time.perf_counter()
    while len(milliseconds) < REPEATS and (
        len(milliseconds) < 3 or time.perf_counter() - begin < SECONDS
    ):
        milliseconds.append(once() * 1e3)
    return {
        "median_ms": round(statistics.median(milliseconds), 3),
        "minimum_ms": round(min(milliseconds), 3),
        "repeats": len(milliseconds),
    }


if __name__ == "__main__":
    main()
