"""Names of files as text that can be stored and shown."""

from __future__ import annotations

import os
from pathlib import Path


def as_text(path: str | Path) -> str:
    r"""A path or name as text that UTF-8 has, whatever the locale; other bytes become `\xff`."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")
