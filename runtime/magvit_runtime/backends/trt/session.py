"""TensorRT and TensorRT-RTX: a bundle's engine on an NVIDIA GPU.

Written against the documentation and headers of TensorRT 10.14 and TensorRT-RTX 1.7, and tested on
stand-ins for both; not run on a GPU yet.
"""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from magvit_runtime.backends.backend import Array, Capabilities
from magvit_runtime.backends.trt.contexts import (
    ExecutionContexts,
    TensorRtContexts,
    TensorRtRtxContexts,
    runtime_cache_file,
)
from magvit_runtime.backends.trt.engines import Engine, check_plan, rebuild_command
from magvit_runtime.backends.trt.log import process_logger, take_error
from magvit_runtime.backends.trt.tensors import EngineTensors, read_tensors
from magvit_runtime.backends.trt.worker import LoadedEngine, Worker
from magvit_runtime.closing import Closing, freed_with
from magvit_runtime.cuda.arrays import DeviceArray, DeviceView, view_device_array
from magvit_runtime.cuda.device import open_device
from magvit_runtime.cuda.memory import ResultMemory
from magvit_runtime.cuda.shaped_run import LaunchMode
from magvit_runtime.cuda.stage_times import StageTimes
from magvit_runtime.cuda.worker_pool import WorkerPool
from magvit_runtime.errors import BackendError, BundleError, InputError
from magvit_runtime.hardware.flavours import import_flavour
from magvit_runtime.native_libraries.lookup import plugin_library

# TensorRT has one registry of plugins and one logger for the whole process.
_OPENING = threading.Lock()

# The alignment that TensorRT requires of every address.
_ALIGNMENT = 256


class TensorRtSession(Closing):
    """An engine of either flavour on one GPU: the first that CUDA_VISIBLE_DEVICES shows.

    Thread-safe: any number of threads may call `run`, `run_device` and `warm_up` at once. As many
    run at once as there are workers, each with its own execution contexts, CUDA stream and buffers
    for the largest batch of the profile; others wait for a free one. A call returns when its own
    stream is done, and waits for no other. `close` must not overlap with a run.

    A worker costs as much GPU memory as TensorRT needs for the activations of the largest batch.
    With one, the GPU idles while a batch and its ids are copied; a second worker fills that gap.

    Batches larger than the profile are refused, not split; engines without weights are refused.

    Args:
        engine: An engine that fits this machine (`engines.finding.first_mismatch`).
        precision: Precision of its graph, for the record.
        workers: Runs at once.
        reason: Why this backend was chosen, for the record.

    Raises:
        InputError: `workers` isn't positive.
        BundleError: The plan is missing, damaged, or not what its sidecar says.
        BackendError: There is no GPU, no driver or no plugin library, a package is missing, or
            TensorRT refuses the engine.
    """

    def __init__(self, engine: Engine, *, precision: str, workers: int = 1, reason: str) -> None:
        check_plan(engine)
        flavour = engine.record.key.flavour
        trt = import_flavour(flavour)
        device = open_device()
        self._pool: WorkerPool[Worker] = WorkerPool(device)
        with _OPENING, device.current():
            _load_plugins(trt, engine)
            runtime, plan = _deserialize(trt, engine)
            tensors = _read_tensors(trt, plan, engine)
            contexts = _contexts(trt, plan, engine, device.name)
            self._loaded = LoadedEngine(
                device,
                plan,
                tensors,
                contexts,
                ResultMemory(device),
                _launch_mode(contexts),
                StageTimes(),
            )
            # After what uses it: an object's attributes go in the order in which they came.
            self._runtime = runtime
            self._free = freed_with(self, _free, self._pool, self._loaded, runtime)
            try:
                self._pool.fill(partial(Worker, self._loaded), workers)
            except BaseException:
                self.close()
                raise
        self._capabilities = Capabilities(
            backend=flavour,
            version=trt.__version__,
            device=f"{device.name} (compute capability {device.sm})",
            precision=precision,
            threads=0,
            reason=reason,
            workers=workers,
            device_arrays=True,
        )

    @property
    def capabilities(self) -> Capabilities:
        """What it runs on, and how runs now reach the GPU."""
        launches = self._loaded.launches.description
        return dataclasses.replace(self._capabilities, launches=launches)

    @property
    def stage_times(self) -> StageTimes:
        """The GPU times of runs of host arrays, recorded once `seconds` is a list."""
        return self._loaded.stage_times

    def run(self, inputs: Mapping[str, Array], outputs: Sequence[str]) -> list[Array]:
        """Runs the engine once on NumPy arrays; see `Session.run`.

        Args:
            inputs: Every input by name, within the engine's profile; they are copied.
            outputs: Names of the outputs wanted.

        Returns:
            The outputs in that order, as arrays that the caller owns.

        Raises:
            InputError: A name isn't the engine's, or an array doesn't fit its profile.
            BackendError: TensorRT or CUDA failed, or the session is closed.
        """
        arrays = {name: np.asarray(array) for name, array in inputs.items()}
        self._check(arrays, outputs)
        with self._pool.borrow() as worker:
            return worker.run(arrays, outputs)

    def run_device(self, inputs: Mapping[str, object], outputs: Sequence[str]) -> list[DeviceArray]:
        """Runs the engine once on arrays of its GPU; see `DeviceSession.run_device`.

        The inputs aren't copied. They are read in place, so they must begin at a multiple of 256
        bytes.

        Raises:
            InputError: As `run`; or an input isn't an array on this GPU, contiguous and aligned.
            BackendError: As `run`.
        """
        with self._pool.borrow() as worker:
            device = self._loaded.device
            views = {
                name: view_device_array(name, array, device, worker.stream)
                for name, array in inputs.items()
            }
            self._check(views, outputs)
            for name, view in views.items():
                _check_aligned(name, view)
            return worker.run_device(views, outputs)

    def warm_up(self, shape: Sequence[int]) -> None:
        """Runs zeros through every worker until a shape needs no new kernel and no new graph.

        Args:
            shape: Shape of the engine's first input, with the batch.

        Raises:
            InputError: The shape is outside the engine's profile, or the engine has other inputs.
            BackendError: As `run`.
        """
        first = next(iter(self._loaded.tensors.inputs.values()))
        zeros = {first.name: np.zeros(tuple(shape), first.dtype)}
        outputs = list(self._loaded.tensors.outputs)
        self._check(zeros, outputs)
        self._pool.warm_up(lambda worker: worker.run(zeros, outputs))

    def close(self) -> None:
        """Frees the GPU's memory, and keeps the runtime cache of TensorRT-RTX for the next time."""
        self._free()
        # What was made last goes first: contexts did, now the engine, then the runtime.
        self._loaded = dataclasses.replace(self._loaded, engine=None)
        self._runtime = None

    def _check(self, arrays: Mapping[str, Any], outputs: Sequence[str]) -> None:
        shapes = {name: array.shape for name, array in arrays.items()}
        dtypes = {name: array.dtype for name, array in arrays.items()}
        self._loaded.tensors.check(shapes, dtypes, outputs)


def _free(pool: WorkerPool[Worker], loaded: LoadedEngine, _runtime: object) -> None:
    with loaded.device.current():
        loaded.contexts.close()
        pool.close()
        loaded.results.close()


def _check_aligned(name: str, view: DeviceView) -> None:
    if view.pointer % _ALIGNMENT:
        raise InputError(
            f"input {name!r} begins at an address that TensorRT doesn't take",
            found=f"{view.pointer % _ALIGNMENT} bytes past a multiple of {_ALIGNMENT}",
            mend="pass a copy of the slice",
        )


def _load_plugins(trt: Any, engine: Engine) -> None:
    """Registers our plugins with a flavour, unless this process did so before."""
    registry = trt.get_plugin_registry()
    if any(getattr(c, "plugin_namespace", "") == "magvit" for c in registry.all_creators):
        return
    library = plugin_library()
    if library is None:
        if not engine.record.plugin_layers:
            return
        raise BackendError(
            f"{engine.plan} needs the plugin library (libmagvit_plugins.so), which isn't here",
            mend="build it by `cmake -B build && cmake --build build`, or build the engine again",
        )
    if registry.load_library(str(library)) is None:
        raise BackendError(f"TensorRT can't load {library}", found=take_error())


def _deserialize(trt: Any, engine: Engine) -> tuple[Any, Any]:
    """The runtime and the `ICudaEngine` of a plan whose digest was checked."""
    if engine.record.key.options.get("strip_weights"):
        raise BackendError(
            f"{engine.plan} has no weights in it, and sessions don't put them back",
            mend=rebuild_command(engine),
        )
    take_error()
    runtime = trt.Runtime(process_logger(trt))
    # A version-compatible plan contains its own small runtime, as code.
    if engine.record.key.options.get("version_compatible"):
        runtime.engine_host_code_allowed = True
    plan = runtime.deserialize_cuda_engine(engine.plan.read_bytes())
    if plan is None:
        raise BackendError(
            f"TensorRT can't load {engine.plan}", found=take_error(), mend=rebuild_command(engine)
        )
    return runtime, plan


def _read_tensors(trt: Any, plan: Any, engine: Engine) -> EngineTensors:
    tensors = read_tensors(trt, plan)
    profile = engine.record.key.profiles[0]
    if not tensors.takes(profile):
        raise BundleError(
            f"{engine.plan} isn't what its sidecar says",
            found=", ".join(
                f"{i.name} {i.minimum} to {i.maximum}" for i in tensors.inputs.values()
            ),
            expected=", ".join(
                f"{name} {shapes.minimum} to {shapes.maximum}" for name, shapes in profile.items()
            ),
            mend=rebuild_command(engine),
        )
    return tensors


def _contexts(trt: Any, plan: Any, engine: Engine, gpu: str) -> ExecutionContexts:
    if engine.record.key.flavour == "tensorrt":
        return TensorRtContexts(trt, plan)
    return TensorRtRtxContexts(trt, plan, runtime_cache_file(engine.plan, gpu))


def _launch_mode(contexts: ExecutionContexts) -> LaunchMode:
    if contexts.replays_by_itself:
        return LaunchMode(captures=False, graphs="CUDA graphs, captured by TensorRT-RTX")
    return LaunchMode(captures=True, graphs="CUDA graphs, captured for each shape")
