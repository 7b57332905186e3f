"""Every script of the docs' tables works, on the smallest input."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys

import pytest
from measure_scripts import FOLDER
from runtime.triton_server import why_no_server

SHARED = {"growth.py", "smoke.py", "soak_bundle.py", "soak_work.py"}  # What scripts import.
SCRIPTS = sorted(path.name for path in FOLDER.glob("*.py") if path.name not in SHARED)
NEEDS = {"kernel_figures.py": "nvcc"}


@pytest.mark.slow
@pytest.mark.parametrize(
    "script",
    [pytest.param(one, marks=[pytest.mark.alone] * (one == "ray_rate.py")) for one in SCRIPTS],
)
def test_a_smoke_run_prints_its_figures(script: str) -> None:
    if script == "triton_latency.py" and why_no_server():
        pytest.skip(why_no_server())
    tool = NEEDS.get(script)
    if tool is not None and shutil.which(tool) is None:
        pytest.skip(f"{tool} is not on the PATH")
    run = subprocess.run(
        [sys.executable, FOLDER / script, "--smoke"], capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr[-4000:]
    assert re.search(r"\d", run.stdout.splitlines()[-1])


def test_the_docs_name_every_script() -> None:
    docs = "".join(path.read_text() for path in FOLDER.parent.glob("*.md"))
    assert [name for name in SCRIPTS if f"docs/measure/{name}" not in docs] == []
