"""Clips a second of the renderer.

taskset -c 0 python tests/performance/render_rate.py   # on one core
"""

import statistics
import time

import numpy as np

from magvit_export.training.libras import load_libras
from magvit_runtime.trajectories import RenderStyle, Trajectory, render

CLIPS, REPEATS = 120, 60

if __name__ == "__main__":
    data = load_libras()
    t = np.arange(data.xy.shape[1], dtype=np.float64)
    trajectories = [
        Trajectory(str(i), xy.astype(np.float64), t) for i, xy in enumerate(data.xy[:CLIPS])
    ]
    seconds = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        render(trajectories, RenderStyle())
        seconds.append(time.perf_counter() - start)
    median, best = CLIPS / statistics.median(seconds), CLIPS / min(seconds)
    print(f"{median:.0f} clips/s (median of {REPEATS}), {best:.0f} (best)")
