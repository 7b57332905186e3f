"""Files and folders that hold what isn't finished; those of killed processes are found and removed.

Each is locked while its process lives. A process that is killed can remove nothing, but its locks
go with it; so whoever writes to the same folder next knows what nobody will finish.
"""

from __future__ import annotations

import os
import re
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from magvit_runtime.files.locks import is_still_there, try_lock

Kind = Literal["partial", "staging"]

_NAME = re.compile(r"\..*\.magvit-[0-9a-f]{16}\.(partial|staging)", re.DOTALL)
# So that the whole is no longer than a name can be, even in 4 bytes a character.
_LONGEST_STEM = 40


@contextmanager
def temporary_file(folder: Path, stem: str) -> Iterator[Path]:
    """An empty file that is gone when the block is left, unless it was moved elsewhere.

    Args:
        folder: Where it lies; what killed processes left there is removed first.
        stem: What its name begins with, after a dot.
    """
    yield from _temporary(folder, stem, "partial")


@contextmanager
def temporary_folder(folder: Path, stem: str) -> Iterator[Path]:
    """An empty folder that is gone, with all that is in it, when the block is left.

    Args:
        folder: Where it lies; what killed processes left there is removed first.
        stem: What its name begins with, after a dot.
    """
    yield from _temporary(folder, stem, "staging")


def is_temporary(path: Path) -> bool:
    """Whether a path has a name of ours for what isn't finished."""
    return _NAME.fullmatch(path.name) is not None


def remove_leftovers(folder: Path) -> None:
    """Removes what killed processes left in a folder; nothing that a process still holds.

    Where the file system has no locks, nothing is removed.
    """
    try:
        with os.scandir(folder) as entries:
            names = [entry.name for entry in entries if _NAME.fullmatch(entry.name)]
    except OSError:  # A folder may be one to write to, and not to list.
        return
    for name in names:
        path = folder / name
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
        except OSError:  # Gone meanwhile, or not ours to touch.
            continue
        try:
            if try_lock(descriptor):
                _remove(path)
        finally:
            os.close(descriptor)


def _temporary(folder: Path, stem: str, kind: Kind) -> Iterator[Path]:
    remove_leftovers(folder)
    while True:
        path = folder / f".{stem[:_LONGEST_STEM]}.magvit-{secrets.token_hex(8)}.{kind}"
        descriptor = None
        # Its name is known before it is there, so that no signal comes too early to remove it.
        try:
            if kind == "staging":
                path.mkdir()
            flags = os.O_RDONLY if kind == "staging" else os.O_RDWR | os.O_CREAT | os.O_EXCL
            descriptor = os.open(path, flags, 0o666)
            # Another process may have taken it for a leftover before it was locked.
            if try_lock(descriptor) is not False and is_still_there(path, descriptor):
                yield path
                return
        finally:
            _remove(path)
            if descriptor is not None:
                os.close(descriptor)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
