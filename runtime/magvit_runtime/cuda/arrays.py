"""Arrays on the GPU that pass between our code and other libraries without a copy.

The protocol is DLPack (https://dmlc.github.io/dlpack/latest/). If a library has only
`__cuda_array_interface__`, it is version 3 of that (Numba's documentation).
"""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Self

import numpy as np

from magvit_runtime.cuda.device import CudaDevice
from magvit_runtime.cuda.memory import DeviceBlock, ResultMemory, tensor_bytes
from magvit_runtime.errors import InputError
from magvit_runtime.hardware.packages import missing_package

_CUDA, _CUDA_MANAGED = 2, 13
_USE_RUN = "pass NumPy arrays to `run`, or to the tokenizer itself"


class _TensorHead(ctypes.Structure):
    """The beginning of a `DLManagedTensor`: the address, and its `DLDevice`."""

    _fields_ = (
        ("data", ctypes.c_void_p),
        ("device_type", ctypes.c_int32),
        ("device_id", ctypes.c_int32),
    )


@dataclass(frozen=True)
class DeviceView:
    """The address and layout of another library's array on the GPU.

    Attributes:
        pointer: Its address.
        shape: Its shape; the array is contiguous in C order.
        dtype: Its element type.
        owner: The object that keeps the memory alive.
    """

    pointer: int
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    owner: object


class DeviceArray:
    """A result on the GPU, in C order, which every library that reads DLPack can take.

    It is complete, so any stream may use it at once. Its memory is freed when neither this object
    nor an array made from it is left; see `DeviceBlock` for other streams that still work on it
    then.

    Attributes:
        shape: Its shape.
        dtype: Its element type.
        device_ordinal: Number of the GPU.

    Example:
        >>> ids = session.run_device({"clips": clips}, ["ids"])[0]
        >>> torch.from_dlpack(ids)  # or cupy.from_dlpack, jax.dlpack.from_dlpack
    """

    def __init__(self, block: DeviceBlock, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
        self._block = block
        self.shape = shape
        self.dtype = dtype
        self.device_ordinal = block.device_ordinal

    @classmethod
    def empty(
        cls, memory: ResultMemory, shape: tuple[int, ...], dtype: np.dtype[Any], stream: Any
    ) -> Self:
        """An array of any content, which work on `stream` may fill at once."""
        return cls(memory.allocate(tensor_bytes(shape, dtype), stream), shape, dtype)

    @property
    def pointer(self) -> int:
        """Its address on the GPU."""
        return self._block.pointer

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        # "stream" None: the reader doesn't have to wait for anything.
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
        # NumPy makes the capsule, and never reads the memory. NumPy's destructor and deleter are C
        # code that is safe in any thread and at the interpreter's exit.
        capsule = np.asarray(_Facade(self._block, self._interface())).__dlpack__()
        head = _head_of(capsule)
        head.device_type, head.device_id = self.__dlpack_device__()
        return capsule

    def _interface(self) -> dict[str, Any]:
        return {
            "shape": self.shape,
            "typestr": self.dtype.str,
            "data": (self.pointer, False),
            "strides": None,
            "version": 3,
        }


def view_device_array(name: str, array: object, device: CudaDevice, stream: Any) -> DeviceView:
    """The address and layout of another library's array; `stream` may read it after this call.

    Args:
        name: Name of the input, for messages.
        array: An object that exports DLPack or `__cuda_array_interface__`.
        device: The GPU that it must lie on.
        stream: The stream that will read it; it is made to wait for the work that fills it.

    Raises:
        InputError: It isn't an array on this GPU, NumPy doesn't have its element type, or it isn't
            contiguous in C order.
        MissingPackageError: NVIDIA's package that reads the two protocols isn't installed.
    """
    strided_view = _import_strided_view()
    if hasattr(array, "__dlpack_device__"):
        # Asked first: arrays on the host take no stream, and raise errors of their own for one.
        kind, ordinal = array.__dlpack_device__()
        _check_place(name, kind, ordinal, device)
    elif not hasattr(array, "__cuda_array_interface__"):
        raise InputError(
            f"input {name!r} isn't an array on the GPU",
            found=type(array).__name__,
            expected="an object with __dlpack__ or __cuda_array_interface__",
            mend=_USE_RUN,
        )
    try:
        view = strided_view.from_any_interface(array, stream_ptr=int(stream))
        dtype = np.dtype(view.dtype)
    # Libraries refuse an export with errors of any kind; torch also raises AssertionError.
    except Exception as error:
        raise InputError(f"input {name!r} can't be read", found=str(error)) from error
    if not hasattr(array, "__dlpack_device__"):
        _check_place(name, _CUDA, view.device_id, device)
    _check_contiguous(name, view.shape, view.strides)
    return DeviceView(view.ptr, view.shape, dtype, view)


def _import_strided_view() -> Any:
    # Imported here, because it imports CUDA's bindings, which only arrays on the GPU need.
    try:
        return import_module("cuda.core.utils").StridedMemoryView
    except ImportError as error:
        raise missing_package("cuda.core", "an array on the GPU") from error


def _check_place(name: str, kind: int, ordinal: int, device: CudaDevice) -> None:
    if kind == _CUDA_MANAGED or (kind, ordinal) == (_CUDA, device.ordinal):
        return
    raise InputError(
        f"input {name!r} isn't on the GPU of this session",
        found=f"DLPack device ({int(kind)}, {ordinal})",
        expected=f"({_CUDA}, {device.ordinal})",
        mend=f"move it there, or {_USE_RUN}",
    )


def _check_contiguous(name: str, shape: tuple[int, ...], strides: tuple[int, ...] | None) -> None:
    """Refuses strides, in elements, that aren't those of C order; None is C order."""
    if strides is None:
        return
    expected = 1
    for size, stride in zip(reversed(shape), reversed(strides), strict=True):
        if size != 1 and stride != expected:
            raise InputError(
                f"input {name!r} isn't contiguous",
                found=f"{list(shape)} with strides of {list(strides)} elements",
                mend="pass its contiguous copy",
            )
        expected *= size


def _head_of(capsule: object) -> _TensorHead:
    """The tensor that a capsule points to; valid while the capsule lives and is not consumed."""
    get_pointer = ctypes.PYFUNCTYPE(ctypes.c_void_p, ctypes.py_object, ctypes.c_char_p)(
        ("PyCapsule_GetPointer", ctypes.pythonapi)
    )
    return _TensorHead.from_address(get_pointer(capsule, b"dltensor"))


class _Facade:
    """Shows a block of GPU memory to NumPy, which keeps this object while it has the address."""

    def __init__(self, block: DeviceBlock, interface: dict[str, Any]) -> None:
        self._block = block
        self.__array_interface__ = interface
