"""Standard output that is closed, full, or has gone."""

from __future__ import annotations

import subprocess
import sys

import pytest
from runtime.magvit_process import MAIN


@pytest.mark.parametrize(
    ("redirection", "code", "message"),
    [
        ("| head -n 1", "1", ""),
        ("| true", "1", ""),
        (">&-", "0", ""),
        ("> /dev/full", "1", "magvit: a file can't be read or written: found [Errno 28] No space"),
    ],
)
@pytest.mark.parametrize("command", ["models", "--json models", "tokenize --help"])
def test_no_traceback_and_no_second_word(
    command: str, redirection: str, code: str, message: str
) -> None:
    """What a short output meets depends on who is faster, so `head` is only looked at for words."""
    script = f"{sys.executable} -c '{MAIN}' {command} {redirection}; echo ${{PIPESTATUS[0]}} >&2"
    process = subprocess.run(
        ["bash", "-c", script], capture_output=True, text=True, check=True, timeout=120
    )
    *words, status = process.stderr.splitlines()
    assert len(words) == (1 if message else 0), process.stderr
    assert "".join(words).startswith(message)
    assert status in {"0", code}
