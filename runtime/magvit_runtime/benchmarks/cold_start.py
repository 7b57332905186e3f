"""A fresh process that opens a bundle and runs one clip, and says what that took.

python -m magvit_runtime.benchmarks.cold_start  # with its arguments as one JSON object
"""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import msgspec
import numpy as np

from magvit_runtime.benchmarks.encoders import MODEL_CLASSES
from magvit_runtime.benchmarks.results import ColdStart
from magvit_runtime.bundle.manifest import Precision, Role
from magvit_runtime.errors import BackendError
from magvit_runtime.hardware.gpus import list_gpus


class Start(msgspec.Struct, frozen=True):
    """What to open: as `Tokenizer.open` takes it, the shape of the clip, and the role."""

    bundle: str
    backend: str
    precision: Precision
    threads: int
    clip_shape: tuple[int, ...]
    role: Role = "encode"


class _Launch(msgspec.Struct, frozen=True):
    """A start, and the time when the process was started, in seconds of the epoch."""

    start: Start
    at: float


def measure_cold_start(start: Start) -> ColdStart:
    """Starts the process and waits for it.

    Raises:
        BackendError: It failed.
    """
    # The path is an argument of its own: JSON has no text for a name that isn't UTF-8.
    launch = msgspec.json.encode(_Launch(msgspec.structs.replace(start, bundle=""), time.time()))
    process = subprocess.run(
        [sys.executable, "-m", __name__, launch.decode(), start.bundle],
        capture_output=True,
        text=True,
        check=False,
    )
    if process.returncode != 0:
        last = (process.stderr.strip().splitlines() or ["nothing"])[-1]
        raise BackendError("a fresh process failed to run a clip", found=last)
    return msgspec.json.decode(process.stdout, type=ColdStart)


def _run(launch: _Launch, bundle: str) -> ColdStart:
    start = launch.start
    imported = time.time() - launch.at
    kind = MODEL_CLASSES[start.role]
    takes_ids = start.role in ("decode", "classify")
    clips = np.zeros((1, *start.clip_shape), np.int32 if takes_ids else np.uint8)
    free = [gpu.free_mib for gpu in list_gpus()]
    times = [time.perf_counter()]
    with kind.open(
        bundle, backend=start.backend, precision=start.precision, threads=start.threads
    ) as model:
        times.append(time.perf_counter())
        for _ in range(2):
            model(clips)
            times.append(time.perf_counter())
        taken = [before - gpu.free_mib for before, gpu in zip(free, list_gpus(), strict=True)]
    load, first, second = np.diff(times).tolist()
    return ColdStart(imported, load, first, second, _peak_mib(), max(taken, default=None))


def _peak_mib() -> float:
    """The process's own peak: `ru_maxrss` would also count what its parent held at the fork."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    (line,) = (line for line in status.splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) / 1024


if __name__ == "__main__":
    result = _run(msgspec.json.decode(sys.argv[1], type=_Launch), sys.argv[2])
    sys.stdout.write(msgspec.json.encode(result).decode())
