"""Measures the renderer's clips per second.

taskset -c 0 python docs/measure/render_rate.py   # on one core
python docs/measure/render_rate.py --smoke        # once: only shows that the script works
"""

import statistics
import sys
import time

import numpy as np

from magvit_export.libras import load_libras
from magvit_runtime.clips.trajectories import RenderStyle, Trajectory, render

CLIPS, REPEATS = 120, 60

if __name__ == "__main__":
    data = load_libras()
    t = np.arange(data.xy.shape[1], dtype=np.float64)
    trajectories = [
        Trajectory(str(i), xy.astype(np.float64), t) for i, xy in enumerate(data.xy[:CLIPS])
    ]
    seconds = []
    for _ in range(1 if "--smoke" in sys.argv else REPEATS):
        start = time.perf_counter()
        render(trajectories, RenderStyle())
        seconds.append(time.perf_counter() - start)
    median, best = CLIPS / statistics.median(seconds), CLIPS / min(seconds)
    print(f"{median:.0f} clips/s (median of {len(seconds)}), {best:.0f} (best)")
