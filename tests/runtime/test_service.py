"""docs/embedding.md's service answers all that it was given before it ends."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

GUIDE = (Path(__file__).parents[2] / "docs" / "embedding.md").read_text(encoding="utf-8")
MARK = r"<!-- tests/runtime/test_service\.py runs this block\. -->\n```python\n(.*?)```"


@pytest.fixture(autouse=True)
def interrupts() -> Iterator[None]:
    """A shell's background jobs ignore SIGINT, and so would what these tests start."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize("end", ["SIGTERM", "SIGINT", "end of input"])
def test_calls_under_way_are_answered(end: str, tiny_bundle: Path, tmp_path: Path) -> None:
    (code,) = re.findall(MARK, GUIDE, re.S)
    (tmp_path / "service.py").write_text(code.replace("(17, 128, 128, 3)", "(5, 32, 32, 3)"))
    (tmp_path / "model").symlink_to(tiny_bundle)
    names = [f"{i}.npy" for i in range(20)]
    for name in names:
        np.save(tmp_path / name, np.zeros((1, 5, 32, 32, 3), np.uint8))
    with subprocess.Popen(
        [sys.executable, "service.py"],
        cwd=tmp_path,
        env=os.environ,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as service:
        assert service.stdin is not None
        assert service.stdout is not None
        assert service.stdout.readline() == "ready\n"
        service.stdin.write("".join(f"{name}\n" for name in names))
        service.stdin.flush()
        first = service.stdout.readline()
        if end != "end of input":
            service.send_signal(getattr(signal, end))
        rest, errors = service.communicate()
    answers = [first, *rest.splitlines(keepends=True)]
    assert all(re.fullmatch(r"\d+\.npy \(1, 5, \d+, \d+\)\n", line) for line in answers), errors
    # A signal may come before the last lines are read, but all that were read are answered.
    given = names if end == "end of input" else names[: len(answers)]
    assert sorted(line.split()[0] for line in answers) == sorted(given)
    if end == "SIGINT":
        assert "KeyboardInterrupt" in errors
    else:
        assert (service.returncode, errors) == (0, "")
