"""A GPU, its CUDA runtime and a TensorRT made of host memory, for tests on machines without one.

They keep the rules that can break a session: memory must be allocated while it is used, a context
needs shapes, addresses and activation memory, the first run after new shapes can't be captured,
a context's shapes lie in its profile, an engine without weights doesn't run, and an address given
to TensorRT is a multiple of 256. The "engine" adds up the colours of a pixel and its weights.
"""

# Names and signatures are those of CUDA and TensorRT.
# ruff: noqa: ARG002, ARG005, E731, N802, N815

from __future__ import annotations

import ctypes
import enum
import json
import sys
import threading
from collections.abc import Callable
from types import ModuleType, SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
import pytest

INPUT, IDS, LATENTS = "frames", "ids", "latents"


class CudaError(enum.IntEnum):
    cudaSuccess = 0
    cudaErrorInvalidValue = 1
    cudaErrorMemoryAllocation = 2
    cudaErrorInsufficientDriver = 35
    cudaErrorStreamCaptureInvalidated = 901


OK = CudaError.cudaSuccess


class Cuda(ModuleType):
    """`cuda.bindings.runtime`; streams are done at once, unless they are being captured."""

    cudaError_t = CudaError
    cudaStreamNonBlocking = 1
    cudaEventDefault = 0
    cudaEventDisableTiming = 2
    cudaMemcpyKind = SimpleNamespace(
        cudaMemcpyHostToDevice=1, cudaMemcpyDeviceToHost=2, cudaMemcpyDeviceToDevice=3
    )
    cudaStreamCaptureMode = SimpleNamespace(cudaStreamCaptureModeThreadLocal=1)
    cudaMemAllocationType = SimpleNamespace(cudaMemAllocationTypePinned=1)
    cudaMemLocationType = SimpleNamespace(cudaMemLocationTypeDevice=1)
    cudaMemPoolAttr = SimpleNamespace(cudaMemPoolAttrReleaseThreshold=4)

    def __init__(self) -> None:
        super().__init__("cuda.bindings.runtime")
        self.blocks: dict[int, Any] = {}
        self.live: dict[str, set[int]] = {"stream": set(), "graph": set(), "executable": set()}
        self.captured: dict[int, list[Callable[[], None]]] = {}
        self.graphs: dict[int, list[Callable[[], None]]] = {}
        self.calls: list[str] = []
        # Sizes of copies, by kind.
        self.copies: dict[int, list[int]] = {1: [], 2: [], 3: []}
        self.allocations = 0
        self.memory = 2**30
        self.capture_fails = False
        self.milliseconds: list[float] = []
        self._next = 100
        self._lock = threading.Lock()

    def handle(self) -> int:
        with self._lock:
            self._next += 1
            return self._next

    def submit(self, stream: int, work: Callable[[], None]) -> None:
        if stream in self.captured:
            self.captured[stream].append(work)
        else:
            work()

    def owns(self, address: int, size: int) -> bool:
        return any(start <= address < start + len(b) - size + 1 for start, b in self.blocks.items())

    def allocate(self, size: int) -> tuple[CudaError, int | None]:
        if size > self.memory:
            return CudaError.cudaErrorMemoryAllocation, None
        buffer = (ctypes.c_uint8 * (size + 256))()
        start = -(-ctypes.addressof(buffer) // 256) * 256
        block = (ctypes.c_uint8 * size).from_buffer(buffer, start - ctypes.addressof(buffer))
        with self._lock:
            self.blocks[start] = block
            self.allocations += 1
        return OK, start

    def release(self, address: int) -> tuple[CudaError]:
        with self._lock:
            return (OK if self.blocks.pop(address, None) else CudaError.cudaErrorInvalidValue,)

    cudaMalloc = cudaMallocHost = lambda self, size: self.allocate(size)
    cudaFree = cudaFreeHost = lambda self, address: self.release(address)
    cudaGetDeviceCount = lambda self: (OK, 1)
    cudaDriverGetVersion = lambda self: (OK, 13000)
    cudaRuntimeGetVersion = lambda self: (OK, 13000)
    cudaGetErrorString = lambda self, status: (OK, b"as the stand-in says")
    cudaGetDevice = lambda self: (OK, 0)
    cudaSetDevice = lambda self, ordinal: (OK,)
    cudaGetLastError = lambda self: (OK,)
    cudaStreamSynchronize = lambda self, stream: (OK,)
    cudaMemPoolCreate = lambda self, properties: (OK, self.handle())
    cudaMemPoolSetAttribute = lambda self, pool, attribute, value: (OK,)
    cudaMemPoolDestroy = lambda self, pool: (OK,)
    cudaMallocFromPoolAsync = lambda self, size, pool, stream: self.allocate(size)
    cudaFreeAsync = lambda self, address, stream: self.release(address)
    cudaEventCreateWithFlags = lambda self, flags: (OK, self.handle())
    cudaEventDestroy = lambda self, event: (OK,)
    cudaEventElapsedTime = lambda self, start, end: (OK, self.milliseconds.pop(0))

    def cudaMemPoolProps(self) -> SimpleNamespace:
        return SimpleNamespace(location=SimpleNamespace())

    def cudaGetDeviceProperties(self, ordinal: int) -> tuple[CudaError, SimpleNamespace]:
        return OK, SimpleNamespace(name=b"Stand-in GPU", major=8, minor=9)

    def cudaEventRecord(self, event: int, stream: int) -> tuple[CudaError]:
        self.calls.append(f"record {stream}")
        return (OK,)

    def cudaStreamWaitEvent(self, stream: int, event: int, flags: int) -> tuple[CudaError]:
        self.calls.append(f"wait {stream}")
        return (OK,)

    def cudaStreamCreateWithFlags(self, flags: int) -> tuple[CudaError, int]:
        return OK, self._new("stream")

    def cudaStreamDestroy(self, stream: int) -> tuple[CudaError]:
        return self._gone("stream", stream)

    def cudaMemcpyAsync(
        self, to: int, source: int, size: int, kind: int, stream: int
    ) -> tuple[CudaError]:
        if not self.owns(to, size) or not self.owns(source, size):
            return (CudaError.cudaErrorInvalidValue,)
        self.copies[kind].append(size)
        self.submit(stream, lambda: ctypes.memmove(to, source, size))
        return (OK,)

    def cudaMemcpy(self, to: int, source: int, size: int, kind: int) -> tuple[CudaError]:
        on_device = source if kind == self.cudaMemcpyKind.cudaMemcpyDeviceToHost else to
        if not self.owns(on_device, size):
            return (CudaError.cudaErrorInvalidValue,)
        ctypes.memmove(to, source, size)
        return (OK,)

    def cudaMemsetAsync(self, to: int, value: int, size: int, stream: int) -> tuple[CudaError]:
        if not self.owns(to, size):
            return (CudaError.cudaErrorInvalidValue,)
        self.submit(stream, lambda: ctypes.memset(to, value, size))
        return (OK,)

    def cudaStreamBeginCapture(self, stream: int, mode: int) -> tuple[CudaError]:
        self.captured[stream] = []
        return (OK,)

    def cudaStreamEndCapture(self, stream: int) -> tuple[CudaError, int | None]:
        work = self.captured.pop(stream)
        if self.capture_fails:
            return CudaError.cudaErrorStreamCaptureInvalidated, None
        graph = self._new("graph")
        self.graphs[graph] = work
        return OK, graph

    def cudaGraphInstantiate(self, graph: int, flags: int) -> tuple[CudaError, int]:
        executable = self._new("executable")
        self.graphs[executable] = self.graphs[graph]
        return OK, executable

    def cudaGraphLaunch(self, executable: int, stream: int) -> tuple[CudaError]:
        self.calls.append("replay")
        for work in self.graphs[executable]:
            work()
        return (OK,)

    def cudaGraphDestroy(self, graph: int) -> tuple[CudaError]:
        return self._gone("graph", graph)

    def cudaGraphExecDestroy(self, executable: int) -> tuple[CudaError]:
        return self._gone("executable", executable)

    def _new(self, kind: str) -> int:
        handle = self.handle()
        self.live[kind].add(handle)
        return handle

    def _gone(self, kind: str, handle: int) -> tuple[CudaError]:
        self.live[kind].remove(handle)
        return (OK,)


class TensorRt(ModuleType):
    """`tensorrt` or `tensorrt_rtx`; a plan is JSON.

    It has the smallest, best and largest shape of each profile, and the weights that it takes: for
    each name its type, its size and the sum of its values, None where it has been left out.
    """

    TensorLocation = enum.Enum("TensorLocation", "DEVICE HOST")
    TensorIOMode = enum.Enum("TensorIOMode", "NONE INPUT OUTPUT")
    CudaGraphStrategy = enum.Enum("CudaGraphStrategy", "DISABLED WHOLE_GRAPH_CAPTURE")
    ExecutionContextAllocationStrategy = enum.Enum("Strategy", "STATIC USER_MANAGED")
    DynamicShapesKernelSpecializationStrategy = enum.Enum("Kernels", "LAZY EAGER NONE")
    SerializationFlag = enum.Enum("SerializationFlag", "EXCLUDE_WEIGHTS INCLUDE_REFIT")
    ILogger = type("ILogger", (), {"__init__": lambda self: None})

    def __init__(self, name: str, version: str, cuda: Cuda) -> None:
        super().__init__(name)
        self.__version__ = version
        self.cuda = cuda
        self.contexts: list[Context] = []
        self.libraries: list[str] = []
        self.fails = ""

    def nptype(self, kind: Any) -> Any:
        return kind

    def Refitter(self, engine: Engine, logger: Any) -> Refitter:
        return Refitter(engine)

    def Weights(self, array: Any) -> Weights:
        assert array.flags.c_contiguous
        return Weights(array.dtype, array.size, float(array.sum(dtype=np.float64)))

    def get_plugin_registry(self) -> SimpleNamespace:
        def load(path: str) -> object:
            self.libraries.append(path)
            return object()

        return SimpleNamespace(all_creators=[], load_library=load)

    def Runtime(self, logger: Any) -> SimpleNamespace:
        self.logger = logger
        return SimpleNamespace(deserialize_cuda_engine=self._deserialize)

    def error(self, message: str) -> None:
        self.logger.log(SimpleNamespace(name="ERROR"), message)

    def _deserialize(self, plan: bytes) -> Engine | None:
        if not plan.startswith(b"{"):
            self.error("magic tag")
            self.error("something else after it")
            return None
        return Engine(self, **json.loads(plan))


class Engine:
    device_memory_size_v2 = 4096

    def __init__(
        self,
        trt: TensorRt,
        profiles: list[list[list[int]]],
        weights: dict[str, list[Any]] | None = None,
    ) -> None:
        self.trt = trt
        self.profiles = profiles
        self.weights = weights or {}
        self.refittable = weights is not None
        self.names = [INPUT, IDS, LATENTS]
        self.num_optimization_profiles = len(profiles)
        self.num_io_tensors = len(self.names)

    def get_tensor_name(self, index: int) -> str:
        return self.names[index]

    def get_tensor_dtype(self, name: str) -> Any:
        return {INPUT: np.uint8, IDS: np.int32, LATENTS: np.float32}[name]

    def get_tensor_location(self, name: str) -> Any:
        return self.trt.TensorLocation.DEVICE

    def get_tensor_mode(self, name: str) -> Any:
        mode = self.trt.TensorIOMode
        return mode.INPUT if name == INPUT else mode.OUTPUT

    def get_tensor_profile_shape(self, name: str, profile: int) -> list[Any]:
        return list(self.profiles[profile])

    def create_serialization_config(self) -> SimpleNamespace:
        config = SimpleNamespace(flags=set())
        config.set_flag = config.flags.add
        return config

    def serialize_with_config(self, config: SimpleNamespace) -> bytes:
        stays = self.trt.SerializationFlag.INCLUDE_REFIT in config.flags
        weights = self.weights if stays else None
        return json.dumps({"profiles": self.profiles, "weights": weights}).encode()

    def create_execution_context(self, config: Any) -> Context:
        if isinstance(config, SimpleNamespace):
            assert config.strategy == self.trt.ExecutionContextAllocationStrategy.USER_MANAGED
            graphs = config.cuda_graph_strategy.name
            config.cache.entries.append(graphs)
        else:
            assert config == self.trt.ExecutionContextAllocationStrategy.USER_MANAGED
            graphs = ""
        context = Context(self.trt, self, graphs)
        self.trt.contexts.append(context)
        return context

    def create_runtime_config(self) -> SimpleNamespace:
        config = SimpleNamespace()
        config.create_runtime_cache = RuntimeCache
        config.set_runtime_cache = lambda cache: setattr(config, "cache", cache)
        config.set_execution_context_allocation_strategy = lambda strategy: setattr(
            config, "strategy", strategy
        )
        return config


class Weights(NamedTuple):
    dtype: Any
    size: int
    total: float | None


class Refitter:
    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.given: dict[str, Weights] = {}

    def get_all_weights(self) -> list[str]:
        return list(self.engine.weights)

    def get_weights_prototype(self, name: str) -> Weights:
        dtype, size, _ = self.engine.weights[name]
        return Weights(np.dtype(dtype), size, None)

    def set_named_weights(self, name: str, weights: Weights) -> bool:
        assert weights[:2] == self.get_weights_prototype(name)[:2]
        self.given[name] = weights
        return True

    def get_missing_weights(self) -> list[str]:
        held = {name for name, (*_, total) in self.engine.weights.items() if total is not None}
        return [name for name in self.engine.weights if name not in held | self.given.keys()]

    def refit_cuda_engine(self) -> bool:
        assert not self.get_missing_weights()
        if self.engine.trt.fails:
            self.engine.trt.error(self.engine.trt.fails)
            return False
        for name, weights in self.given.items():
            self.engine.weights[name][2] = weights.total
        return True


class RuntimeCache:
    def __init__(self) -> None:
        self.entries: list[str] = []

    def serialize(self) -> bytes:
        return json.dumps(self.entries).encode()

    def deserialize(self, content: bytes) -> bool:
        if not content.startswith(b"["):
            return False
        self.entries = json.loads(content)
        return True


class Context:
    def __init__(self, trt: TensorRt, engine: Engine, graphs: str) -> None:
        self.trt = trt
        self.engine = engine
        self.graphs = graphs
        self.profile = 0
        self.shape: tuple[int, ...] = ()
        self.addresses: dict[str, int] = {}
        self.activations = (0, 0)
        self.is_flushed = False
        self.enqueued = 0

    def set_device_memory(self, address: int, size: int) -> None:
        self.activations = address, size

    def set_optimization_profile_async(self, profile: int, stream: int) -> bool:
        assert stream in self.trt.cuda.live["stream"]
        assert not self.shape, "the shapes are set after the profile"
        self.profile = profile
        return profile < self.engine.num_optimization_profiles

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        minimum, _, maximum = self.engine.profiles[self.profile]
        limits = zip(minimum, shape, maximum, strict=True)
        if not all(low <= size <= high for low, size, high in limits):
            self.trt.error(f"{list(shape)} is outside of profile {self.profile}")
            return False
        self.is_flushed = self.is_flushed and shape == self.shape
        self.shape = shape
        return True

    def get_tensor_shape(self, name: str) -> list[int]:
        return list({IDS: self.shape[:-1], LATENTS: (*self.shape[:-1], 2)}[name])

    def set_tensor_address(self, name: str, address: int) -> bool:
        assert address % 256 == 0
        self.addresses[name] = address
        return True

    def execute_async_v3(self, stream: int) -> bool:
        cuda = self.trt.cuda
        assert stream in cuda.live["stream"]
        assert cuda.owns(*self.activations)
        totals = [total for *_, total in self.engine.weights.values()]
        assert None not in totals, "an engine without weights was run"
        if self.trt.fails:
            self.trt.error(self.trt.fails)
            return False
        if stream in cuda.captured and not self.is_flushed:
            self.trt.error("shapes are new")
            return False
        self.is_flushed = True
        self.enqueued += 1
        addresses, shape = dict(self.addresses), self.shape
        offset = round(sum(totals))
        cuda.submit(stream, lambda: self._compute(addresses, shape, offset))
        return True

    def _compute(self, addresses: dict[str, int], shape: tuple[int, ...], offset: int) -> None:
        def at(name: str, shape: tuple[int, ...], dtype: Any) -> Any:
            size = int(np.prod(shape)) * np.dtype(dtype).itemsize
            assert self.trt.cuda.owns(addresses[name], size), name
            memory = (ctypes.c_uint8 * size).from_address(addresses[name])
            return np.frombuffer(memory, dtype).reshape(shape)

        clips = at(INPUT, shape, np.uint8)
        ids = at(IDS, shape[:-1], np.int32)
        ids[:] = clips.sum(-1, dtype=np.int64) + offset
        at(LATENTS, (*shape[:-1], 2), np.float32)[:] = ids[..., None] * 0.5


def install(monkeypatch: pytest.MonkeyPatch) -> tuple[Cuda, TensorRt, TensorRt]:
    """Puts stand-ins in the place of CUDA's bindings and of both flavours."""
    cuda = Cuda()
    driver = ModuleType("cuda.bindings.driver")
    driver.cuuint64_t = int  # type: ignore[attr-defined]
    trt = TensorRt("tensorrt", "10.14.1", cuda)
    rtx = TensorRt("tensorrt_rtx", "1.7.1", cuda)
    for module in (cuda, driver, trt, rtx):
        monkeypatch.setitem(sys.modules, module.__name__, module)
    return cuda, trt, rtx
