"""Standard output and error that take any text, on any terminal."""

from __future__ import annotations

import codecs
import io
import json
import os
import sys
from typing import Any

import msgspec

_ESCAPES = "magvit-escapes"


def take_any_text() -> None:
    r"""Makes both streams write what their encoding hasn't as `\uXXXX`, as JSON has it.

    So an ASCII terminal, or a file name that is no text, costs no result.
    """
    codecs.register_error(_ESCAPES, _escape)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=_ESCAPES)


def json_text(facts: dict[str, Any]) -> str:
    r"""One line of JSON; bytes of a file name that are no text stay as `\udcXX`."""
    try:
        return msgspec.json.encode(facts).decode()
    except UnicodeEncodeError:
        return json.dumps(msgspec.to_builtins(facts), ensure_ascii=False, separators=(",", ":"))


def drop_what_is_left() -> None:
    """Drops what standard output can't take, so that the interpreter doesn't try again at exit."""
    if sys.stdout is None:
        return
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


def _escape(error: UnicodeError) -> tuple[str, int]:
    assert isinstance(error, UnicodeEncodeError)
    units = error.object[error.start : error.end].encode("utf-16-be", "surrogatepass")
    codes = (units[i : i + 2].hex() for i in range(0, len(units), 2))
    return "".join(f"\\u{code}" for code in codes), error.end
