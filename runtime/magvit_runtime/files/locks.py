"""Locks that end with the process that holds them, however it ends: the kernel gives them back."""

from __future__ import annotations

import errno
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from magvit_runtime.errors import InputError

LOCK_FILE = ".lock"

_LOG = logging.getLogger(__name__)
_NO_LOCKS = (errno.EBADF, errno.EINVAL, errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP)


def try_lock(descriptor: int) -> bool | None:
    """Locks an open file or folder until its descriptor is closed.

    Returns:
        Whether it is locked now; None where its file system has no locks.
    """
    return _flock(descriptor, wait=False)


@contextmanager
def folder_lock(folder: Path) -> Iterator[None]:
    """Holds the lock of a folder; waits while another process, or another thread, holds it.

    The file `.lock` is there only as long as somebody holds the lock or waits for it. filelock
    isn't used: where a folder can't be written to, it waits for ever.

    Raises:
        InputError: The folder isn't there, or can't be written to.
    """
    path = folder / LOCK_FILE
    try:
        descriptor = _locked_file(path)
    except OSError as error:
        raise InputError(f"can't write to {folder}", found=error.strerror) from error
    try:
        yield
    finally:
        # Removed while it is locked: who waits for it sees that it has gone, and makes a new one.
        path.unlink(missing_ok=True)
        os.close(descriptor)


def _locked_file(path: Path) -> int:
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            if _flock(descriptor, wait=True) is None:
                _LOG.warning("%s: this file system has no locks", path)
                return descriptor
            if is_still_there(path, descriptor):
                return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)


def is_still_there(path: Path, descriptor: int) -> bool:
    """Whether a path still leads to the open file, and wasn't removed or replaced meanwhile."""
    try:
        return os.path.samestat(path.lstat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def _flock(descriptor: int, *, wait: bool) -> bool | None:
    try:
        import fcntl
    except ImportError:  # Not a POSIX system.
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno in _NO_LOCKS:
            return None
        raise
    return True
