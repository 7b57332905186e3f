"""Gives back the memory of weights that were read from a mapped file: they can be read again.

A checkpoint is mapped, not read, so its tensors take no memory of their own. But each page that is
touched stays in the process's memory, so a checkpoint of 6 GB would take 6 GB beside the weights of
half precision that are made of it.
"""

from __future__ import annotations

import ctypes
import mmap
import sys
from pathlib import Path

from torch import Tensor

_MAPS = Path("/proc/self/maps")
_NO_MORE = 4  # MADV_DONTNEED, of Linux.


def forget_pages(tensor: Tensor) -> None:
    """Drops the pages of a tensor that lies in a mapped file; it reads the same afterwards.

    Other tensors are left alone: the memory of those can't be read again.

    Args:
        tensor: Unchanged since it was mapped.
    """
    if not sys.platform.startswith("linux") or tensor.device.type != "cpu" or not tensor.numel():
        return
    begin = tensor.data_ptr()
    end = begin + tensor.nbytes
    if not (tensor.is_contiguous() and _is_in_file(begin, end)):
        return
    page = mmap.PAGESIZE
    first, last = -(-begin // page) * page, end // page * page
    if first < last:
        ctypes.CDLL(None).madvise(
            ctypes.c_void_p(first), ctypes.c_size_t(last - first), ctypes.c_int(_NO_MORE)
        )


def _is_in_file(begin: int, end: int) -> bool:
    """Whether a range of addresses lies in one mapping of a file."""
    with _MAPS.open() as lines:
        for line in lines:
            fields = line.split(maxsplit=5)
            low, _, high = fields[0].partition("-")
            if int(low, 16) <= begin < int(high, 16):
                return end <= int(high, 16) and len(fields) == 6 and fields[5].startswith("/")
    return False
