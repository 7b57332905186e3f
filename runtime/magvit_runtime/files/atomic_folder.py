"""Folders of outputs that are whole or not there: filled beside their place, then renamed."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from magvit_runtime.errors import InputError


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """A folder beside `path` to fill; renamed to it at the end, removed after an error.

    Raises:
        InputError: Something is at `path` that isn't an empty folder, or it can't be written to.
    """
    if path.exists() and not (path.is_dir() and not any(path.iterdir())):
        raise InputError(f"{path} is there already", mend="remove it, or choose another -o")
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        partial.mkdir(parents=True)
    except OSError as error:
        raise InputError(f"can't write {path}", found=error.strerror) from error
    try:
        yield partial
        # Renaming takes the place of an empty folder.
        partial.replace(path)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
