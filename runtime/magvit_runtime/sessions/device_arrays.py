"""Arrays on the GPU, ours and other libraries', that pass from one to another without a copy.

The two protocols are DLPack (https://dmlc.github.io/dlpack/latest/) and, where a library has only
that, `__cuda_array_interface__` version 3 (Numba's documentation).
"""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from typing import Any

import numpy as np

from magvit_runtime.errors import InputError
from magvit_runtime.sessions.cuda_device import CudaDevice
from magvit_runtime.sessions.device_memory import ALIGNMENT, DeviceBlock

_CUDA, _CUDA_MANAGED = 2, 13
_KINDS = {0: "i", 1: "u", 2: "f"}


class _Device(ctypes.Structure):
    """`DLDevice`."""

    _fields_ = (("type", ctypes.c_int32), ("id", ctypes.c_int32))


class _DataType(ctypes.Structure):
    """`DLDataType`."""

    _fields_ = (("code", ctypes.c_uint8), ("bits", ctypes.c_uint8), ("lanes", ctypes.c_uint16))


class _Tensor(ctypes.Structure):
    """`DLTensor`, with which `DLManagedTensor` begins."""

    _fields_ = (
        ("data", ctypes.c_void_p),
        ("device", _Device),
        ("ndim", ctypes.c_int32),
        ("dtype", _DataType),
        ("shape", ctypes.POINTER(ctypes.c_int64)),
        ("strides", ctypes.POINTER(ctypes.c_int64)),
        ("byte_offset", ctypes.c_uint64),
    )


@dataclass(frozen=True)
class DeviceView:
    """Where somebody else's array lies on the GPU.

    Attributes:
        pointer: Its address.
        shape: Its shape; the array is contiguous in C order.
        dtype: Its element type.
        owner: What keeps the memory alive.
    """

    pointer: int
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    owner: object


class DeviceArray:
    """A result on the GPU, in C order, which every library that reads DLPack can take.

    All work that made it is done, so it may be used on any stream at once. Its memory is freed
    when neither this object nor an array made of it is left; see `DeviceBlock` for work of other
    streams that is still under way then.

    Attributes:
        shape: Its shape.
        dtype: Its element type.
        device_ordinal: Number of the GPU.

    Example:
        >>> ids = session.run_device({"clips": clips}, ["ids"])[0]
        >>> torch.from_dlpack(ids)  # or cupy.from_dlpack, jax.dlpack.from_dlpack
    """

    def __init__(
        self, block: DeviceBlock, shape: tuple[int, ...], dtype: np.dtype[Any], ordinal: int
    ) -> None:
        self._block = block
        self.shape = shape
        self.dtype = dtype
        self.device_ordinal = ordinal

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        # "stream" None: the reader need not wait for anything.
        return {**self._interface(), "stream": None}

    def __dlpack_device__(self) -> tuple[int, int]:
        return _CUDA, self.device_ordinal

    def __dlpack__(
        self,
        *,
        stream: int | None = None,
        max_version: tuple[int, int] | None = None,
        dl_device: tuple[int, int] | None = None,
        copy: bool | None = None,
    ) -> object:
        if copy or dl_device not in (None, self.__dlpack_device__()):
            raise BufferError("this array is handed over where it lies, without a copy")
        # NumPy makes the capsule, of memory that it never looks into: its destructor and deleter
        # are C code that is safe in any thread and at the interpreter's exit.
        capsule = np.asarray(_Facade(self._block, self._interface())).__dlpack__()
        tensor = _tensor_of(capsule)
        tensor.device.type, tensor.device.id = self.__dlpack_device__()
        return capsule

    def _interface(self) -> dict[str, Any]:
        return {
            "shape": self.shape,
            "typestr": self.dtype.str,
            "data": (self._block.pointer, False),
            "strides": None,
            "version": 3,
        }


def view_device_array(name: str, array: object, device: CudaDevice, stream: Any) -> DeviceView:
    """Where another library's array lies, after which `stream` may read it.

    Args:
        name: Name of the input, for messages.
        array: What exports DLPack or `__cuda_array_interface__`.
        device: The GPU that it must lie on.
        stream: The stream that will read it; it is made to wait for the work that fills it.

    Raises:
        InputError: It isn't an array on this GPU, isn't contiguous, or isn't aligned.
    """
    if hasattr(array, "__dlpack__") and hasattr(array, "__dlpack_device__"):
        view = _view_dlpack(name, array, device, int(stream))
    elif hasattr(array, "__cuda_array_interface__"):
        view = _view_cuda_interface(name, array, device, stream)
    else:
        raise InputError(
            f"input {name!r} isn't an array on the GPU",
            found=type(array).__name__,
            expected="an object with __dlpack__ or __cuda_array_interface__",
            mend="use `run` for NumPy arrays",
        )
    if view.pointer % ALIGNMENT:
        raise InputError(
            f"input {name!r} begins at an address that TensorRT doesn't take",
            found=f"{view.pointer % ALIGNMENT} bytes past a multiple of {ALIGNMENT}",
            mend="pass a copy of the slice",
        )
    return view


def _view_dlpack(name: str, array: Any, device: CudaDevice, stream: int) -> DeviceView:
    kind, ordinal = (int(part) for part in array.__dlpack_device__())
    if kind not in (_CUDA, _CUDA_MANAGED) or (kind == _CUDA and ordinal != device.ordinal):
        raise InputError(
            f"input {name!r} isn't on the GPU of this session",
            found=f"DLPack device ({kind}, {ordinal})",
            expected=f"({_CUDA}, {device.ordinal})",
            mend="move it there, or use `run` for NumPy arrays",
        )
    try:
        capsule = array.__dlpack__(stream=stream)
    except (BufferError, RuntimeError, TypeError, ValueError) as error:
        raise InputError(f"input {name!r} can't be exported", found=str(error)) from error
    tensor = _tensor_of(capsule)
    shape = tuple(tensor.shape[: tensor.ndim])
    kind_letter, bits = _KINDS.get(tensor.dtype.code), int(tensor.dtype.bits)
    if kind_letter is None or tensor.dtype.lanes != 1 or bits not in (8, 16, 32, 64):
        raise InputError(
            f"input {name!r} has an element type that NumPy hasn't",
            found=f"DLPack code {tensor.dtype.code}, {bits} bits, {tensor.dtype.lanes} lanes",
        )
    dtype = np.dtype(f"{kind_letter}{bits // 8}")
    if tensor.strides:
        strides = tuple(step * dtype.itemsize for step in tensor.strides[: tensor.ndim])
        _check_contiguous(name, shape, strides, dtype)
    # A capsule that nobody takes over frees what it holds when it goes itself.
    return DeviceView((tensor.data or 0) + tensor.byte_offset, shape, dtype, capsule)


def _view_cuda_interface(name: str, array: Any, device: CudaDevice, stream: Any) -> DeviceView:
    interface = array.__cuda_array_interface__
    shape, dtype = tuple(interface["shape"]), np.dtype(interface["typestr"])
    if interface.get("strides") is not None:
        _check_contiguous(name, shape, tuple(interface["strides"]), dtype)
    if interface.get("mask") is not None:
        raise InputError(f"input {name!r} has a mask")
    producer = interface.get("stream")
    if producer is not None:
        _wait(device, stream, producer)
    return DeviceView(int(interface["data"][0]), shape, dtype, array)


def _wait(device: CudaDevice, stream: Any, producer: int) -> None:
    """Makes a stream wait for what another has to do so far."""
    event = device.call("cudaEventCreateWithFlags", device.runtime.cudaEventDisableTiming)
    try:
        device.call("cudaEventRecord", event, producer)
        device.call("cudaStreamWaitEvent", stream, event, 0)
    finally:
        # CUDA keeps what it needs of it until the wait is over.
        device.call("cudaEventDestroy", event)


def _check_contiguous(
    name: str, shape: tuple[int, ...], strides: tuple[int, ...], dtype: np.dtype[Any]
) -> None:
    expected = dtype.itemsize
    for size, stride in zip(reversed(shape), reversed(strides), strict=True):
        if size != 1 and stride != expected:
            raise InputError(
                f"input {name!r} isn't contiguous",
                found=f"strides of {strides} bytes",
                mend="pass its contiguous copy",
            )
        expected *= size


def _tensor_of(capsule: object) -> _Tensor:
    """What a capsule points to; valid as long as the capsule lives and nobody takes it over."""
    get_pointer = ctypes.PYFUNCTYPE(ctypes.c_void_p, ctypes.py_object, ctypes.c_char_p)(
        ("PyCapsule_GetPointer", ctypes.pythonapi)
    )
    return _Tensor.from_address(get_pointer(capsule, b"dltensor"))


class _Facade:
    """Shows a block of GPU memory to NumPy, which keeps this object while it has the address."""

    def __init__(self, block: DeviceBlock, interface: dict[str, Any]) -> None:
        self._block = block
        self.__array_interface__ = interface
