"""`make gpu-check` where there is no GPU, and the report that it writes where there is one."""

from __future__ import annotations

import os
import runpy
import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).parents[2] / "kernels" / "gpu_check.py"


def test_without_a_gpu_nothing_is_run(tmp_path: Path) -> None:
    environment = {**os.environ, "PATH": str(tmp_path)}
    output = tmp_path / "report"
    result = subprocess.run(
        [sys.executable, str(SCRIPT), "--output", str(output)],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0
    assert "no NVIDIA GPU on this machine" in result.stdout
    assert not output.exists()


def test_a_failing_step_is_recorded_and_hides_nothing() -> None:
    functions = runpy.run_path(str(SCRIPT))

    def fail() -> dict[str, object]:
        command = [sys.executable, "-c", "raise SystemExit('no nvcc')"]
        subprocess.run(command, capture_output=True, text=True, check=True)
        raise AssertionError

    report = functions["run_step"](fail)
    assert report["passed"] is False
    assert "CalledProcessError" in report["error"]
    assert "no nvcc" in report["output"]
    table = functions["markdown"](
        {
            "gpu": "NVIDIA L4, 8.9, 580.1",
            "date": "2026-11-22",
            "steps": {
                "kernels": report,
                "engines": {
                    "passed": True,
                    "seconds": 3.0,
                    "flavours": {
                        "tensorrt-rtx": {
                            "passed": True,
                            "version": "1.7.1",
                            "changed_tokens": "3 of 3840",
                            "milliseconds_a_batch": {"1": {"median": 40.5, "min": 40.0}},
                        }
                    },
                },
            },
        }
    )
    assert "| kernels | FAILED: CalledProcessError" in table
    assert "| tensorrt-rtx 1.7.1 | batch 1: 40.5 ms; 3 of 3840 |" in table
