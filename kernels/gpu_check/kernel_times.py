"""Times each kernel of the native backend's fp16 encoder, and the pauses between them.

    python kernels/gpu_check/kernel_times.py BUNDLE REFERENCE FOLDER

It prints, for each batch size, how long the GPU worked and paused in a run, and the kernels that
took longest, as lines of JSON. FOLDER receives `kernels-<batch>.json`: every kernel of one run in
order. PyTorch's profiler does the timing; it sees the kernels of other libraries too.
"""

from __future__ import annotations

import argparse
import json
import re
import statistics
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import torch
from measure import BATCHES, WARM_UPS
from torch.profiler import ProfilerActivity, profile
from ways import Frames, Way, open_way

from magvit_runtime import open_bundle

RUNS = 20
LONGEST = 25
_ON_GPU = ("kernel", "gpu_memcpy", "gpu_memset")

# An event of the profiler: `name`, `ts` and `dur` (in µs), `cat`.
Event = dict[str, Any]


def main() -> None:
    """Profiles each batch size."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("bundle", type=Path)
    parser.add_argument("reference", type=Path)
    parser.add_argument("folder", type=Path)
    given = parser.parse_args()
    given.folder.mkdir(parents=True, exist_ok=True)
    clips = np.load(given.reference)["clips"]
    way = open_way("native", "fp16", open_bundle(given.bundle), "cuda")
    for batch in BATCHES:
        runs = split_runs(gpu_events(way, clips[np.arange(batch) % len(clips)]), RUNS)
        print(json.dumps({"profiled": "native-fp16", "batch_size": batch, **summary(runs)}))
        order = [{"name": event["name"], "us": event["dur"]} for event in runs[-1]]
        file = given.folder / f"kernels-{batch}.json"
        file.write_text(json.dumps(order, indent=1) + "\n")


def gpu_events(way: Way, frames: Frames) -> list[Event]:
    """What the GPU did in `RUNS` runs, in order."""
    for _ in range(WARM_UPS):
        way.run(frames)
    with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as recorded:
        for _ in range(RUNS):
            way.run(frames)
        torch.cuda.synchronize()
    with tempfile.TemporaryDirectory() as folder:
        trace = Path(folder) / "trace.json"
        recorded.export_chrome_trace(str(trace))
        events: list[Event] = json.loads(trace.read_text())["traceEvents"]
    return sorted((e for e in events if e.get("cat") in _ON_GPU), key=lambda e: float(e["ts"]))


def split_runs(events: list[Event], runs: int) -> list[list[Event]]:
    """The events of each run, which all have equally many.

    Raises:
        ValueError: There are none, or the runs differ.
    """
    length, rest = divmod(len(events), runs)
    if length == 0 or rest:
        raise ValueError(f"{len(events)} events in {runs} equal runs")
    return [events[i : i + length] for i in range(0, len(events), length)]


def summary(runs: list[list[Event]]) -> dict[str, Any]:
    """Medians over the runs: the GPU's microseconds at work and in pauses, and by kernel.

    Copies to and from the host aren't counted.
    """
    compute = [[event for event in run if event["cat"] != "gpu_memcpy"] for run in runs]
    busy = statistics.median(sum(event["dur"] for event in run) for run in compute)
    span = statistics.median(run[-1]["ts"] + run[-1]["dur"] - run[0]["ts"] for run in compute)
    names = [short_name(event["name"]) for event in compute[0]]
    launches = Counter(names)
    microseconds: Counter[str] = Counter()
    for place, name in enumerate(names):
        microseconds[name] += statistics.median(run[place]["dur"] for run in compute)
    return {
        "busy_us": round(busy, 1),
        "span_us": round(span, 1),
        "launches": len(names),
        "kernels": [
            {"name": name, "launches": launches[name], "us": round(time, 1)}
            for name, time in microseconds.most_common(LONGEST)
        ],
    }


def short_name(name: str) -> str:
    """A kernel's name without its namespaces, return type and parameters."""
    plain = re.sub(r"\(anonymous namespace\)::|^void |magvit::", "", name)
    return plain.split("(")[0][:120]


if __name__ == "__main__":
    main()
