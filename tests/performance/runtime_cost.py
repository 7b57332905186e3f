"""What `magvit tokenize` costs beyond ONNX Runtime itself, measured inside one process.

    python tests/performance/runtime_cost.py BUNDLE CLIPS.npy

Prints the command's whole time, what of it ONNX Runtime took (import, load, run), and the ratio.
"""

import sys
import time

start = time.perf_counter()

import onnxruntime  # noqa: E402 - its import is part of what is timed

imported = time.perf_counter()
inside = imported - start


class TimedSession(onnxruntime.InferenceSession):
    """Adds up the time spent in load and run."""

    def __init__(self, *args: object, **options: object) -> None:
        global inside
        begin = time.perf_counter()
        super().__init__(*args, **options)
        inside += time.perf_counter() - begin

    def run(self, *args: object, **options: object) -> object:
        global inside
        begin = time.perf_counter()
        results = super().run(*args, **options)
        inside += time.perf_counter() - begin
        return results


onnxruntime.InferenceSession = TimedSession

from magvit_runtime.cli.main import main  # noqa: E402 - only now does it find the timed session

if __name__ == "__main__":
    bundle, clips = sys.argv[1:3]
    try:
        main(["tokenize", bundle, clips, "-o", "runtime_cost.npz", "--backend", "onnxruntime"])
    except SystemExit as end:
        if end.code:
            raise
    total = time.perf_counter() - start
    print(f"whole {total:.2f} s, ONNX Runtime {inside:.2f} s, ratio {total / inside:.3f}")
