"""Arrays in the stand-in's memory, like other libraries' arrays on a GPU."""

from __future__ import annotations

from contextlib import suppress
from importlib import import_module
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from runtime.stand_in_gpu import Cuda

# The real package reads them. It is imported before tests replace the bindings that it is built on.
with suppress(ImportError):
    import_module("cuda.core.utils")


class DlpackArray:
    """An array that exports DLPack; `shift` bytes past an address that CUDA would give."""

    device = (2, 0)

    def __init__(self, cuda: Cuda, array: NDArray[Any], shift: int = 0) -> None:
        pytest.importorskip("cuda.core.utils", reason="pip install cuda-core")
        _, address = cuda.allocate(array.nbytes + shift)
        memory = np.frombuffer(cuda.blocks[address], np.uint8)  # type: ignore[index]
        view = memory[shift:].view(array.dtype).reshape(array.shape)
        view[:] = array
        self.array = view
        self.streams: list[int] = []

    @property
    def shape(self) -> tuple[int, ...]:
        return self.array.shape

    def __dlpack_device__(self) -> tuple[int, int]:
        return self.device

    def __dlpack__(self, *, stream: int, max_version: tuple[int, int]) -> object:
        self.streams.append(stream)
        return self.array.__dlpack__(max_version=max_version)


def host_copy(cuda: Cuda, array: Any) -> NDArray[Any]:
    """The content of a `DeviceArray` whose memory is still allocated."""
    assert cuda.owns(array.pointer, array.dtype.itemsize * int(np.prod(array.shape)))
    block = np.frombuffer(cuda.blocks[array.pointer], array.dtype)
    return block.reshape(array.shape).copy()
