"""Makes the execution contexts of an engine, for each flavour.

All contexts get their activation memory from outside (USER_MANAGED). Only one context of a worker
runs at a time, so they share one block. NVIDIA's guides recommend this for CUDA graphs, with one
context per graph, because a graph holds the state of its context.

Not run on a GPU yet.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any, Protocol

from magvit_runtime.backends.trt.log import take_error
from magvit_runtime.errors import BackendError, MagvitError
from magvit_runtime.files.atomic_write import atomic_path
from magvit_runtime.hardware.gpus import gpu_slug

_LOG = logging.getLogger(__name__)


class ExecutionContexts(Protocol):
    """Makes contexts of one engine."""

    @property
    def replays_by_itself(self) -> bool:
        """Whether the flavour captures and replays CUDA graphs without our help."""

    def for_one_shape(self) -> Any:
        """A context that will run one shape at fixed addresses again and again.

        Raises:
            BackendError: The flavour can't make it.
        """

    def for_any_shape(self) -> Any:
        """A context whose shapes and addresses change from run to run.

        Raises:
            BackendError: As above.
        """

    def close(self) -> None:
        """Saves the flavour's cache for the next session, and releases the engine."""


class TensorRtContexts:
    """Contexts of the flavour `tensorrt`."""

    replays_by_itself = False

    def __init__(self, trt: Any, engine: Any) -> None:
        self._trt = trt
        self._engine = engine

    def for_one_shape(self) -> Any:
        """See `ExecutionContexts.for_one_shape`."""
        strategy = self._trt.ExecutionContextAllocationStrategy.USER_MANAGED
        return _made(self._engine.create_execution_context(strategy))

    def for_any_shape(self) -> Any:
        """See `ExecutionContexts.for_any_shape`."""
        return self.for_one_shape()

    def close(self) -> None:
        """Releases the engine; this flavour has no cache to save."""
        self._engine = None


class TensorRtRtxContexts:
    """Contexts of the flavour `tensorrt-rtx`.

    TensorRT-RTX compiles its kernels on the GPU that it runs on. It keeps them in a runtime cache,
    which all contexts share and `close` writes to a file beside the plan. When it reads that file,
    it checks by itself that the cache is of this version, GPU and driver.
    """

    replays_by_itself = True

    def __init__(self, trt: Any, engine: Any, cache_file: Path) -> None:
        self._trt = trt
        self._engine = engine
        self._cache_file = cache_file
        self._saved = _read(cache_file)
        self._cache = engine.create_runtime_config().create_runtime_cache()
        if self._cache is None:
            raise BackendError("TensorRT-RTX can't make a runtime cache", found=take_error())
        if self._saved and not self._cache.deserialize(self._saved):
            _LOG.info("%s is of another environment and will be replaced", cache_file)
            self._saved = b""
            take_error()

    def for_one_shape(self) -> Any:
        """See `ExecutionContexts.for_one_shape`; TensorRT-RTX captures its second run."""
        return self._create(self._trt.CudaGraphStrategy.WHOLE_GRAPH_CAPTURE)

    def for_any_shape(self) -> Any:
        """See `ExecutionContexts.for_any_shape`; new addresses would need a new graph each time."""
        return self._create(self._trt.CudaGraphStrategy.DISABLED)

    def close(self) -> None:
        """Writes the runtime cache, if it has grown; a folder that can't be written is logged."""
        blob = self._cache.serialize()
        content = b"" if blob is None else bytes(memoryview(blob))
        self._cache = self._engine = None
        if not content or content == self._saved:
            return
        try:
            with atomic_path(self._cache_file) as partial:
                partial.write_bytes(content)
        except (MagvitError, OSError) as error:
            _LOG.warning("the runtime cache is not kept: %s", error)

    def _create(self, graphs: Any) -> Any:
        config = self._engine.create_runtime_config()
        config.set_execution_context_allocation_strategy(
            self._trt.ExecutionContextAllocationStrategy.USER_MANAGED
        )
        # Not LAZY: its kernels change in the background, and with them the last bits of results.
        kernels = self._trt.DynamicShapesKernelSpecializationStrategy.EAGER
        config.dynamic_shapes_kernel_specialization_strategy = kernels
        config.cuda_graph_strategy = graphs
        config.set_runtime_cache(self._cache)
        return _made(self._engine.create_execution_context(config))


def runtime_cache_file(plan: Path, gpu: str) -> Path:
    """The file of a plan's runtime cache on a GPU: a portable plan has one for each GPU."""
    return plan.with_name(f"{plan.stem}.{gpu_slug(gpu)}.runtime-cache")


def _made(context: Any) -> Any:
    if context is None:
        raise BackendError(
            "TensorRT can't make an execution context",
            found=take_error(),
            mend="free GPU memory, or open fewer workers",
        )
    return context


def _read(cache_file: Path) -> bytes:
    try:
        return cache_file.read_bytes()
    except OSError:
        return b""
