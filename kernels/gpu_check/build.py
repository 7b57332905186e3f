"""Configures and builds the kernels: the arguments are CMake's command."""

from __future__ import annotations

import subprocess
import sys

if __name__ == "__main__":
    configure = sys.argv[1:]
    folder = configure[configure.index("-B") + 1]
    build = ("cmake", "--build", folder, "--parallel", "--target", "all", "gpu_check")
    for command in (configure, build):
        code = subprocess.run(command, check=False, stdout=sys.stderr).returncode
        if code != 0:
            sys.exit(code)
