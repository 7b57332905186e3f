"""TensorRT and TensorRT-RTX: a bundle's engine on an NVIDIA GPU.

Written against the documentation and headers of TensorRT 10.14 and TensorRT-RTX 1.7, and tested on
stand-ins for both; not run on a GPU yet.
"""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from magvit_runtime.backends.backend import Array, Capabilities
from magvit_runtime.backends.trt.contexts import (
    ExecutionContexts,
    TensorRtContexts,
    TensorRtRtxContexts,
    runtime_cache_file,
)
from magvit_runtime.backends.trt.engines import Engine, check_plan, is_stripped
from magvit_runtime.backends.trt.loading import checked_tensors, deserialize, load_plugins
from magvit_runtime.backends.trt.refitting import put_weights
from magvit_runtime.backends.trt.worker import LoadedEngine, Worker
from magvit_runtime.closing import Closing, freed_with
from magvit_runtime.cuda.arrays import DeviceArray, DeviceView, view_device_array
from magvit_runtime.cuda.device import open_device
from magvit_runtime.cuda.memory import ResultMemory
from magvit_runtime.cuda.shaped_run import LaunchMode
from magvit_runtime.cuda.stage_times import StageTimes
from magvit_runtime.cuda.worker_pool import WorkerPool
from magvit_runtime.errors import InputError
from magvit_runtime.hardware.flavours import import_flavour

# TensorRT has one registry of plugins and one logger for the whole process.
_OPENING = threading.Lock()

# The alignment that TensorRT requires of every address.
_ALIGNMENT = 256


class TensorRtSession(Closing):
    """An engine of either flavour on one GPU.

    Thread-safe: any number of threads may call `run`, `run_device` and `warm_up` at once. As many
    run at once as there are workers, each with its own execution contexts, CUDA stream and buffers
    for the largest batch of the profiles; others wait for a free one. A call returns when its own
    stream is done, and waits for no other. `close` must not overlap with a run.

    A worker costs as much GPU memory as TensorRT needs for the activations of the largest batch.
    With one, the GPU idles while a batch and its ids are copied; a second worker fills that gap.

    Each run takes the tightest of the engine's profiles that holds its shapes. Batches larger than
    all of them are refused, not split.

    Args:
        engine: An engine that fits this machine (`engines.first_mismatch`).
        precision: Precision of its graph, for the record.
        workers: Runs at once.
        reason: Why this backend was chosen, for the record.
        gpu: Which GPU, among those that CUDA shows.
        graph: The ONNX file that it was built from, whose weights an engine without any takes; its
            digest, and its weights', were checked.

    Raises:
        InputError: `workers` isn't positive.
        BundleError: The plan is missing, damaged, or not what its sidecar says.
        BackendError: There is no GPU, no driver or no plugin library, a package is missing, or
            TensorRT refuses the engine, or weights are missing that it needs.
    """

    def __init__(
        self,
        engine: Engine,
        *,
        precision: str,
        workers: int = 1,
        reason: str,
        gpu: int = 0,
        graph: Path | None = None,
    ) -> None:
        check_plan(engine)
        flavour = engine.record.key.flavour
        trt = import_flavour(flavour)
        device = open_device(gpu)
        self._pool: WorkerPool[Worker] = WorkerPool(device)
        with _OPENING, device.current():
            load_plugins(trt, engine)
            runtime, plan = deserialize(trt, engine)
            if is_stripped(engine):
                put_weights(trt, plan, engine.plan, graph)
            tensors = checked_tensors(trt, plan, engine)
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
            inputs: Every input by name, within one of the engine's profiles; they are copied.
            outputs: Names of the outputs wanted.

        Returns:
            The outputs in that order, as arrays that the caller owns.

        Raises:
            InputError: A name isn't the engine's, or an array fits none of its profiles.
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
            InputError: The shape is outside the engine's profiles, or the engine has other inputs.
            BackendError: As `run`.
        """
        name, dtype = next(iter(self._loaded.tensors.inputs.items()))
        zeros = {name: np.zeros(tuple(shape), dtype)}
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


def _contexts(trt: Any, plan: Any, engine: Engine, gpu: str) -> ExecutionContexts:
    if engine.record.key.flavour == "tensorrt":
        return TensorRtContexts(trt, plan)
    return TensorRtRtxContexts(trt, plan, runtime_cache_file(engine.plan, gpu))


def _launch_mode(contexts: ExecutionContexts) -> LaunchMode:
    if contexts.replays_by_itself:
        return LaunchMode(captures=False, graphs="CUDA graphs, captured by TensorRT-RTX")
    return LaunchMode(captures=True, graphs="CUDA graphs, captured for each shape")
