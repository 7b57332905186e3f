"""The CUDA device that a session runs on: NVIDIA's Python bindings, with errors in our words.

Nothing of CUDA is imported before `open_device` is called.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from magvit_runtime.errors import BackendError
from magvit_runtime.hardware.packages import missing_package

_USE_CPU = "or pass backend='onnxruntime', which needs no GPU"


@dataclass(frozen=True)
class CudaDevice:
    """One GPU.

    Attributes:
        runtime: The module `cuda.bindings.runtime`.
        ordinal: Its number among those that CUDA_VISIBLE_DEVICES shows.
        name: Product name.
        sm: Compute capability, as "8.9".
    """

    runtime: Any
    ordinal: int
    name: str
    sm: str

    def call(self, function: str, *arguments: object) -> Any:
        """Calls a function of the CUDA runtime, and returns its results without the status.

        Raises:
            BackendError: The call failed.
        """
        status, *values = getattr(self.runtime, function)(*arguments)
        if int(status) != 0:
            raise BackendError(
                f"{function} failed on {self.name}",
                found=_describe(self.runtime, status),
                mend=_mend(status.name),
            )
        return values[0] if values else None

    @contextmanager
    def current(self) -> Iterator[None]:
        """Makes this the calling thread's device, and restores the thread's own at the end."""
        before = self.call("cudaGetDevice")
        # Also if it is current already: a new thread has no context until this call.
        self.call("cudaSetDevice", self.ordinal)
        try:
            yield
        finally:
            if before != self.ordinal:
                self.call("cudaSetDevice", before)

    def new_stream(self) -> Any:
        """A stream that doesn't wait for the legacy default stream."""
        return self.call("cudaStreamCreateWithFlags", self.runtime.cudaStreamNonBlocking)

    def synchronize(self, stream: Any) -> None:
        """Waits until all work of a stream is done; other streams go on."""
        self.call("cudaStreamSynchronize", stream)


def open_device(ordinal: int = 0) -> CudaDevice:
    """Opens a GPU through the CUDA runtime.

    Args:
        ordinal: Its number among those that CUDA_VISIBLE_DEVICES shows.

    Raises:
        BackendError: The bindings aren't installed, or there is no usable driver or GPU.
    """
    try:
        runtime = import_module("cuda.bindings.runtime")
    except ImportError as error:
        if isinstance(error, ModuleNotFoundError):
            raise missing_package("cuda", "a GPU session") from error
        raise BackendError(
            "NVIDIA's CUDA bindings for Python can't be imported",
            found=str(error),
            mend="pip install --force-reinstall cuda-bindings",
        ) from error
    try:
        status, count = runtime.cudaGetDeviceCount()
        _, driver = runtime.cudaDriverGetVersion()
    except RuntimeError as error:  # Some versions raise if the driver's library is missing.
        raise _no_gpu("no NVIDIA driver") from error
    if driver == 0:
        raise _no_gpu("no NVIDIA driver")
    if status == runtime.cudaError_t.cudaErrorInsufficientDriver:
        _, built_for = runtime.cudaRuntimeGetVersion()
        raise BackendError(
            "the NVIDIA driver is older than the CUDA bindings for Python",
            found=f"a driver for CUDA {driver // 1000}.{driver % 1000 // 10}",
            expected=f"CUDA {built_for // 1000}",
            mend=f"update the driver, or pip install 'cuda-bindings=={driver // 1000}.*'",
        )
    if int(status) != 0:
        raise _no_gpu(_describe(runtime, status))
    if ordinal >= count:
        raise _no_gpu(f"{count} that CUDA can use")
    _, properties = runtime.cudaGetDeviceProperties(ordinal)
    name = properties.name.decode()
    return CudaDevice(runtime, ordinal, name, f"{properties.major}.{properties.minor}")


def _no_gpu(found: str) -> BackendError:
    return BackendError(
        "a GPU session needs an NVIDIA GPU and its driver",
        found=found,
        mend=f"run on a machine where nvidia-smi lists a GPU, {_USE_CPU}",
    )


def _describe(runtime: Any, status: Any) -> str:
    _, text = runtime.cudaGetErrorString(status)
    return f"{status.name} ({text.decode()})"


def _mend(status: str) -> str:
    if status == "cudaErrorMemoryAllocation":
        return "free GPU memory, open fewer workers, or build an engine with a smaller --profile"
    return "close the session and open it again; if it stays, see dmesg and nvidia-smi"
