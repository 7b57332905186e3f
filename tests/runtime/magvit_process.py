"""`magvit` as a user runs it: a process, its output and its exit code."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

MAIN = "from magvit_runtime.cli.main import main; main()"


def magvit(*arguments: object, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", MAIN, *map(str, arguments)]
    return subprocess.run(
        command, cwd=cwd, capture_output=True, text=True, timeout=300, check=False
    )


def done(*arguments: object, cwd: Path | None = None) -> str:
    """Standard output of a command that must succeed and, in a pipe, print nothing else."""
    process = magvit(*arguments, cwd=cwd)
    assert process.returncode == 0, process.stderr
    assert process.stderr == ""
    assert "\x1b" not in process.stdout
    assert "\r" not in process.stdout
    return process.stdout


def done_json(*arguments: object, cwd: Path | None = None) -> Any:
    output = done(*arguments, "--json", cwd=cwd)
    assert len(output.splitlines()) == 1
    return json.loads(output)


def failed(code: int, *arguments: object, cwd: Path | None = None) -> str:
    """The only line that a failing command prints."""
    process = magvit(*arguments, cwd=cwd)
    assert process.returncode == code, process.stderr
    assert process.stdout == ""
    (line,) = process.stderr.splitlines()
    assert line.startswith("magvit: ")
    return line.removeprefix("magvit: ")
