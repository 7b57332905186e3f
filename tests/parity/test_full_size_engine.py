"""The released configuration as an FP16 engine with our plugins, built with no GPU."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path

import pytest

from magvit_runtime.native_libraries.lookup import plugin_library

# Runs a command of ours and prints the peak memory of its processes, in KiB, after its output.
MEASURED = """
import resource, subprocess, sys
code = "from magvit_runtime.cli.main import main; main()"
status = subprocess.run([sys.executable, "-c", code, *sys.argv[1:]]).returncode
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
sys.exit(status)
"""


def magvit(*arguments: str) -> tuple[dict[str, object], float, float]:
    """Facts of the outcome, seconds, and peak memory in GB of the largest process."""
    start = time.perf_counter()
    result = subprocess.run(
        [sys.executable, "-c", MEASURED, "--json", *arguments],
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    facts, kibibytes = result.stdout.splitlines()
    return json.loads(facts), time.perf_counter() - start, int(kibibytes) * 1024 / 1e9


@pytest.mark.full_size
@pytest.mark.skipif(
    find_spec("tensorrt_rtx") is None,
    reason="TensorRT-RTX is not installed: pip install tensorrt-rtx-cu13",
)
@pytest.mark.skipif(
    plugin_library() is None,
    reason="libmagvit_plugins.so was not built: it needs nvcc and TensorRT's headers",
)
def test_full_size_fp16_engine(tmp_path: Path) -> None:
    bundle = str(tmp_path / "bundle")
    model = "open-magvit2-video-128"
    magvit("export", model, "--weights", "seeded", "--precision", "fp16", "-o", bundle)
    facts, seconds, gigabytes = magvit("build", bundle, "--flavour", "tensorrt-rtx")
    # 4 levels and the middle, 4 blocks each, two norms a block, and the last one.
    assert facts["plugin_layers"] == {"GroupNormSiLU": 41, "LFQ": 1}
    assert seconds < 60
    assert gigabytes < 4
