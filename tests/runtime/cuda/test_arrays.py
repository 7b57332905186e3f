"""Arrays on the GPU: other libraries', read by NVIDIA's cuda-core, and ours, as those read them.

Reading `__cuda_array_interface__` needs a driver, so `backends/trt/test_on_gpu.py` tests it.
"""

from __future__ import annotations

import gc
import sys
from typing import Any

import numpy as np
import pytest
from runtime import stand_in_gpu
from runtime.stand_in_arrays import DlpackArray, host_copy
from runtime.stand_in_gpu import Cuda

from magvit_runtime.cuda.arrays import DeviceArray, view_device_array
from magvit_runtime.cuda.device import CudaDevice, open_device
from magvit_runtime.cuda.memory import ResultMemory
from magvit_runtime.errors import BackendError, InputError

STREAM = 77


@pytest.fixture
def cuda(monkeypatch: pytest.MonkeyPatch) -> Cuda:
    return stand_in_gpu.install(monkeypatch)[0]


@pytest.fixture
def device(cuda: Cuda) -> CudaDevice:  # noqa: ARG001 - it is the stand-in's
    return open_device()


def clips() -> np.ndarray[Any, np.dtype[np.uint8]]:
    return np.random.default_rng(0).integers(0, 256, (2, 3, 4, 3), np.uint8)


@pytest.mark.parametrize("shift", [0, 1])
@pytest.mark.parametrize("dtype", [np.uint8, np.int32, np.int64, np.float16, np.float32])
def test_other_libraries_arrays_are_found(
    cuda: Cuda, device: CudaDevice, dtype: Any, shift: int
) -> None:
    shift *= np.dtype(dtype).itemsize
    array = DlpackArray(cuda, np.arange(12).reshape(2, 2, 3).astype(dtype), shift)
    view = view_device_array("clips", array, device, STREAM)
    assert view.pointer == array.array.ctypes.data
    assert (view.shape, view.dtype) == ((2, 2, 3), np.dtype(dtype))


def test_producers_are_waited_for(cuda: Cuda, device: CudaDevice) -> None:
    array = DlpackArray(cuda, clips())
    view_device_array("clips", array, device, STREAM)
    assert array.streams == [STREAM]


def test_a_view_keeps_the_memory(cuda: Cuda, device: CudaDevice) -> None:
    array = DlpackArray(cuda, clips())
    before = sys.getrefcount(array.array)
    view = view_device_array("clips", array, device, STREAM)
    held = sys.getrefcount(array.array)
    del view
    after = sys.getrefcount(array.array)
    assert (held, after) == (before + 1, before)


def test_arrays_that_are_not_contiguous(cuda: Cuda, device: CudaDevice) -> None:
    strided = DlpackArray(cuda, clips())
    strided.array = strided.array.swapaxes(1, 2)
    with pytest.raises(InputError, match=r"'clips' isn't contiguous.*contiguous copy"):
        view_device_array("clips", strided, device, STREAM)
    # The stride of a dimension of size one has no meaning.
    one = DlpackArray(cuda, clips())
    one.array = one.array[:1].transpose(1, 0, 2, 3)
    assert view_device_array("clips", one, device, STREAM).shape == (3, 1, 4, 3)


def test_arrays_that_are_not_on_this_gpu(cuda: Cuda, device: CudaDevice) -> None:
    with pytest.raises(InputError, match=r"DLPack device \(1, 0\), expected \(2, 0\).*`run`"):
        view_device_array("clips", clips(), device, STREAM)
    with pytest.raises(InputError, match="isn't an array on the GPU: found list"):
        view_device_array("clips", [1], device, STREAM)
    other = DlpackArray(cuda, clips())
    other.device = (2, 1)
    with pytest.raises(InputError, match=r"\(2, 1\)"):
        view_device_array("clips", other, device, STREAM)


def test_managed_memory_is_on_every_gpu(cuda: Cuda, device: CudaDevice) -> None:
    array = DlpackArray(cuda, clips())
    array.device = (13, 1)
    assert view_device_array("clips", array, device, STREAM).shape == (2, 3, 4, 3)


def test_a_library_that_refuses_is_quoted(
    cuda: Cuda, device: CudaDevice, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> object:
        raise AssertionError("a tensor with gradients")

    array = DlpackArray(cuda, clips())
    monkeypatch.setattr(DlpackArray, "__dlpack__", refuse)
    with pytest.raises(InputError, match="'clips' can't be read: found a tensor with gradients"):
        view_device_array("clips", array, device, STREAM)


def test_masks_are_refused(device: CudaDevice) -> None:
    class Masked:
        __cuda_array_interface__ = {**clips().__array_interface__, "version": 3, "mask": clips()}  # noqa: RUF012

    pytest.importorskip("cuda.core.utils", reason="pip install cuda-core")
    with pytest.raises(InputError, match="mask is not supported"):
        view_device_array("clips", Masked(), device, STREAM)


def test_without_cuda_core_it_says_what_to_install(
    device: CudaDevice, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "cuda.core.utils", None)
    with pytest.raises(BackendError, match=r"needs cuda-core, .*pip install"):
        view_device_array("clips", clips(), device, STREAM)


def new_ids(device: CudaDevice) -> DeviceArray:
    return DeviceArray.empty(ResultMemory(device), (2, 3), np.dtype(np.int32), STREAM)


def test_other_libraries_find_ours(cuda: Cuda, device: CudaDevice) -> None:
    pytest.importorskip("cuda.core.utils", reason="pip install cuda-core")
    ids = new_ids(device)
    view = view_device_array("ids", ids, device, STREAM)
    assert (view.pointer, view.shape, view.dtype) == (ids.pointer, (2, 3), np.dtype(np.int32))
    interface = ids.__cuda_array_interface__
    assert interface["data"] == (ids.pointer, False)
    assert interface["stream"] is None
    assert host_copy(cuda, ids).shape == (2, 3)


def test_memory_lives_as_long_as_somebody_reads_it(cuda: Cuda, device: CudaDevice) -> None:
    pytest.importorskip("cuda.core.utils", reason="pip install cuda-core")
    ids = new_ids(device)
    pointer = ids.pointer
    view = view_device_array("ids", ids, device, STREAM)
    del ids
    gc.collect()
    assert pointer in cuda.blocks
    del view
    gc.collect()
    assert pointer not in cuda.blocks


def test_results_refuse_what_would_need_a_copy(device: CudaDevice) -> None:
    ids = new_ids(device)
    assert ids.__dlpack_device__() == (2, 0)
    assert ids.__dlpack__(stream=1, max_version=(1, 1), dl_device=(2, 0), copy=False)
    with pytest.raises(BufferError):
        ids.__dlpack__(copy=True)
    with pytest.raises(BufferError):
        ids.__dlpack__(dl_device=(1, 0))
