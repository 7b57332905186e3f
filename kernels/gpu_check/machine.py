"""The GPU that is measured, and the code."""

from __future__ import annotations

import platform
import shutil
import subprocess
from datetime import UTC, datetime

from steps import ROOT


def run_facts(gpu: str) -> dict[str, str]:
    """The facts about a run in a report."""
    return {
        "gpu": gpu,
        "machine": platform.platform(),
        "python": platform.python_version(),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "revision": _revision(),
    }


def gpu_facts(fields: str) -> str | None:
    """The driver's tool's facts about the first GPU; None if there is none.

    Args:
        fields: Names as `nvidia-smi --help-query-gpu` lists them, with commas between them.
    """
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return None
    command = (tool, f"--query-gpu={fields}", "--format=csv,noheader")
    listing = subprocess.run(command, capture_output=True, text=True, check=False)
    lines = listing.stdout.splitlines()
    return lines[0] if listing.returncode == 0 and lines else None


def _revision() -> str:
    """The commit of this checkout; "" without git."""
    git = shutil.which("git")
    if git is None:
        return ""
    command = [git, "-C", str(ROOT), "describe", "--always", "--dirty"]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()
