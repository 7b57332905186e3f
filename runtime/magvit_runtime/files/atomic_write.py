"""Outputs that are whole or not there: written beside their place, then renamed."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from magvit_runtime.errors import InputError, MagvitError
from magvit_runtime.files.temporary import temporary_file

# What says of the place, and not of the work, that nothing more can be written.
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_DEVICES = (Path("/dev"), Path("/dev/fd"), Path("/proc/self/fd"))


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """A path beside `path` to write to; renamed to it at the end, removed after an error.

    What was at `path` is replaced. What killed processes left in the folder is removed.

    Raises:
        InputError: The folder can't be made or written to, or something else than a file is in
            the place.
        MagvitError: The disk is full.
    """
    with naming_full_disks(path), ExitStack() as stack:
        try:
            _check_place(path)
            path.parent.mkdir(parents=True, exist_ok=True)
            partial = stack.enter_context(temporary_file(path.parent, path.name))
        except OSError as error:
            if error.errno in _NO_ROOM:
                raise
            raise InputError(f"can't write {path}", found=error.strerror) from error
        yield partial
        partial.replace(path)


@contextmanager
def naming_full_disks(path: Path) -> Iterator[None]:
    """Names what was being written where the disk is full, or a quota or limit is reached.

    Raises:
        MagvitError: It is.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in _NO_ROOM:
            raise
        raise MagvitError(
            f"can't write {path}",
            found=os.strerror(error.errno),
            mend="make room, or choose another place",
        ) from error


def _check_place(path: Path) -> None:
    """Refuses what renaming would replace although it is no file: a folder, a device, a pipe."""
    # Links such as /dev/stdout, which lead to a file where the output was redirected to one.
    is_device = Path(os.path.abspath(path)).parent in _DEVICES  # noqa: PTH100 - follows no link
    if is_device or (path.exists() and not path.is_file()):
        raise InputError(
            f"can't write {path}",
            found="a folder" if path.is_dir() else "a device or pipe",
            expected="the name of a file",
        )
