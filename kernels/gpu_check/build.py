"""Configures and builds some of the native targets, for the GPU of this machine only.

    python kernels/gpu_check/build.py FOLDER TARGET ...

One architecture is a sixth of the compiler's work. For magvit_plugins, TensorRT's headers come from
the installed package kernel-lens.
"""

from __future__ import annotations

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

from machine import gpu_facts
from steps import ROOT


def main(folder: str, targets: list[str]) -> int:
    """Exit code of CMake."""
    capability = gpu_facts("compute_cap")
    if capability is None:
        sys.exit("no NVIDIA GPU on this machine (nvidia-smi finds none) to compile for")
    configure = ["cmake", "-S", str(ROOT), "-B", folder, "-DBUILD_TESTING=OFF"]
    configure.append(f"-DCMAKE_CUDA_ARCHITECTURES={capability.replace('.', '')}-real")
    configure += _tensorrt() if "magvit_plugins" in targets else ["-DMAGVIT_TENSORRT=OFF"]
    build = ["cmake", "--build", folder, "--parallel", "--target", *targets]
    for command in (configure, build):
        code = subprocess.run(command, check=False, stdout=sys.stderr).returncode
        if code != 0:
            return code
    return 0


def _tensorrt() -> list[str]:
    spec = find_spec("kernel_lens")
    if spec is None or spec.origin is None:
        sys.exit("kernel-lens isn't installed, whose TensorRT headers magvit_plugins is built with")
    headers = Path(spec.origin).parent / "include" / "tensorrt"
    return ["-DMAGVIT_TENSORRT=ON", f"-DTENSORRT_INCLUDE_DIR={headers}"]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2:]))
