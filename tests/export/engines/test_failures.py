"""TensorRT's last error becomes a plain message with a fix."""

from __future__ import annotations

import pytest

from magvit_export.engines.failures import build_error
from magvit_export.engines.protocol import Failed


@pytest.mark.parametrize(
    ("message", "what", "mend"),
    [
        (
            "Error Code 10: Internal Error (Could not find any implementation for node {Conv}.)",
            "no kernel fits one layer",
            "GiB of host memory free",
        ),
        ("Error Code 2: OutOfMemory (Requested size was 1 bytes.)", "out of memory", "--profile"),
        ("no tactics to implement the operation within workspace limit", "--workspace", "raise"),
        ("Invalid Node - a\n  b", "TensorRT failed while parsing", "Invalid Node - a b"),
        ("", "TensorRT failed while parsing", "TensorRT gave no reason"),
    ],
)
def test_translation(message: str, what: str, mend: str) -> None:
    text = str(build_error(Failed("parsing", message)))
    assert what in text
    assert mend in text
    assert "\n" not in text
