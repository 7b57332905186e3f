"""Measures the time of `magvit tokenize` beyond ONNX Runtime itself, inside one process.

    python docs/measure/runtime_cost.py BUNDLE CLIPS.npy
    python docs/measure/runtime_cost.py --smoke     # a tiny model: no figure

Prints the command's whole time, ONNX Runtime's part of it (import, load, run), and the ratio.
"""

import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

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


def run(bundle: str, clips: str, folder: Path) -> None:
    output = str(folder / "tokens.npz")
    try:
        main(["tokenize", bundle, clips, "-o", output, "--backend", "onnxruntime"])
    except SystemExit as end:
        if end.code:
            raise
    total = time.perf_counter() - start
    print(f"whole {total:.2f} s, ONNX Runtime {inside:.2f} s, ratio {total / inside:.3f}")


if __name__ == "__main__":
    with TemporaryDirectory() as given:
        if sys.argv[1:] == ["--smoke"]:
            import numpy as np
            from smoke import tiny_bundle

            np.save(f"{given}/clips.npy", np.zeros((1, 1, 16, 16, 3), np.uint8))
            sys.argv[1:] = [str(tiny_bundle(Path(given))), f"{given}/clips.npy"]
        run(sys.argv[1], sys.argv[2], Path(given))
