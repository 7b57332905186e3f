"""Runs a program on an NVIDIA GPU.

Everything but cuDNN's own calls and our conv is tested on a stand-in for the GPU that runs our
kernels on the CPU; on a GPU, gpu-check and test_on_gpu.py test the whole.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, get_args

import numpy as np

from magvit_runtime.backends.backend import Array
from magvit_runtime.backends.native.cuda.conv_plans import ConvPrecision, PlanCache
from magvit_runtime.backends.native.cuda.cudnn_convs import CudnnConvs
from magvit_runtime.backends.native.cuda.cudnn_graph import import_cudnn
from magvit_runtime.backends.native.cuda.known_batches import KnownBatches
from magvit_runtime.backends.native.cuda.launches import ConvLibrary, LoadedProgram
from magvit_runtime.backends.native.cuda.parameters import CudaParameters
from magvit_runtime.backends.native.cuda.program_check import check_program
from magvit_runtime.backends.native.cuda.worker import CudaWorker
from magvit_runtime.backends.native.decoder_steps import CodebookRows
from magvit_runtime.backends.native.program import Program
from magvit_runtime.cuda.arrays import DeviceArray, view_device_array
from magvit_runtime.cuda.device import CudaDevice, open_device
from magvit_runtime.cuda.memory import ResultMemory
from magvit_runtime.cuda.shaped_run import LaunchMode
from magvit_runtime.cuda.stage_times import StageTimes
from magvit_runtime.cuda.worker_pool import WorkerPool
from magvit_runtime.errors import BackendError, InputError
from magvit_runtime.native_libraries.cuda_operators import CudaOperators, load_cuda_operators
from magvit_runtime.types import Shape

_LOG = logging.getLogger(__name__)


class CudaExecutor:
    """A program on one GPU: the first that CUDA_VISIBLE_DEVICES shows.

    Thread-safe: as many batches run at once as there are workers, each with its own stream and
    memory; others wait. `close` must not overlap with a run.

    Args:
        program: What it computes.
        precision: fp16 for a graph in half precision, tf32 or fp32 for one in float32.
        device: The GPU.
        operators: All but the convs of cuDNN.
        convs: The convs; closed with the executor.
        workers: Batches at once.

    Raises:
        InputError: `workers` isn't positive.
        BackendError: `check_program` refuses the program, or the GPU's memory is short.
    """

    def __init__(
        self,
        program: Program,
        precision: ConvPrecision,
        device: CudaDevice,
        operators: CudaOperators,
        convs: ConvLibrary,
        workers: int = 1,
    ) -> None:
        (self._input,) = program.inputs
        self._rows = [step for step in program.steps if isinstance(step, CodebookRows)]
        self._pool: WorkerPool[CudaWorker] = WorkerPool(device)
        with device.current(), ExitStack() as opened:
            opened.callback(convs.close)
            check_program(program)
            parameters = CudaParameters(device, program)
            opened.callback(parameters.close)
            results = ResultMemory(device)
            opened.callback(results.close)
            launches = LaunchMode(captures=True, graphs="CUDA graphs, captured for each shape")
            loaded = LoadedProgram(
                program,
                precision,
                device,
                operators,
                convs,
                parameters,
                launches,
                StageTimes(),
                results,
                KnownBatches(),
            )
            opened.callback(self._pool.close)
            self._pool.fill(partial(CudaWorker, loaded), workers)
            self._opened = opened.pop_all()
        self.workers = workers
        self._loaded: LoadedProgram | None = loaded

    @property
    def device(self) -> CudaDevice:
        """The GPU."""
        return self._open.device

    @property
    def launches(self) -> str:
        """How runs now reach the GPU, as text for people."""
        return self._open.launches.description

    @property
    def stage_times(self) -> StageTimes:
        """The GPU times of runs of host arrays, recorded once `seconds` is a list."""
        return self._open.stage_times

    def run(self, inputs: Mapping[str, Array], outputs: Sequence[str]) -> list[Array]:
        """Runs a batch.

        Args:
            inputs: Every input of the program by name.
            outputs: Names of the outputs wanted.

        Returns:
            Those outputs, in this order.

        Raises:
            InputError: The program doesn't take this array.
            BackendError: CUDA or cuDNN failed, an id is no row of the codebook, or the executor is
                closed.
        """
        given = inputs[self._input.name]
        clips = self._clips(given.shape, given.dtype)
        for rows in self._rows:
            rows.check(given)
        with self._pool.borrow() as worker:
            return worker.run(given.reshape(clips), outputs)

    def run_device(self, inputs: Mapping[str, object], outputs: Sequence[str]) -> list[DeviceArray]:
        """As `run`, with arrays on this GPU; the results stay there.

        Ids on the GPU aren't checked: the frames of an id that is no row of the codebook are black.

        Raises:
            InputError: As `run`; or it isn't a contiguous array on this GPU.
            BackendError: As `run`.
        """
        with self._pool.borrow() as worker:
            name, device = self._input.name, self._open.device
            view = view_device_array(name, inputs[name], device, worker.stream)
            clips = self._clips(view.shape, view.dtype)
            return worker.run_device(replace(view, shape=clips), outputs)

    def warm_up(self, shape: Sequence[int]) -> None:
        """Runs a shape of the input on every worker until later runs need nothing new.

        From then on this batch size runs without padding. Smaller sizes that aren't known are
        padded to it.

        Raises:
            InputError: The program doesn't take this shape.
            BackendError: As `run`.
        """
        clips = self._clips(tuple(shape), np.dtype(self._input.dtype))
        self._pool.warm_up(lambda worker: worker.rehearse(clips))

    def close(self) -> None:
        """Frees the GPU's memory; a second call does nothing."""
        loaded, self._loaded = self._loaded, None
        if loaded is None:
            return
        with loaded.device.current():
            try:
                self._opened.close()
            except BackendError as error:
                # After a GPU failure nothing can be freed, and nothing needs to be.
                _LOG.warning("closing a session on a GPU: %s", error)

    @property
    def _open(self) -> LoadedProgram:
        if self._loaded is None:
            raise BackendError("this session is closed")
        return self._loaded

    def _clips(self, shape: Shape, dtype: np.dtype[Any]) -> Shape:
        """The shape [N, T, H, W, C] of a batch, in which an image is a clip of one frame."""
        if not self._input.takes(dtype, shape):
            raise InputError(
                "the native backend can't run these inputs",
                found=f"{dtype} {list(shape)}",
                expected=self._input.description,
            )
        return (shape[0], *self._input.clip_shape(shape))


def open_cuda_executor(
    program: Program, precision: str, plans: Path | None, workers: int = 1, gpu: int = 0
) -> CudaExecutor:
    """Opens a program on a GPU of this machine, with convs of cuDNN and our own.

    Args:
        program: What it computes.
        precision: Precision of its graph: fp16, tf32 or fp32.
        plans: Folder, in a bundle, that keeps which plans of convs are the fastest here; None
            finds them again each time. A shape's first run includes that time.
        workers: Batches at once; each costs the memory of a run.
        gpu: Which GPU, among those that CUDA shows.

    Raises:
        InputError: `workers` isn't positive.
        BackendError: Another precision, or not the graph's; there is no GPU, cuDNN or library of
            operators.
    """
    known = next((name for name in get_args(ConvPrecision) if name == precision), None)
    if known is None:
        raise BackendError(
            "the native backend doesn't compute in this precision on a GPU",
            found=precision,
            expected=" or ".join(get_args(ConvPrecision)),
        )
    is_half = any(conv.weight.dtype == np.float16 for conv in program.convs)
    if is_half != (known == "fp16"):
        raise BackendError(
            "the graph isn't of the precision asked for",
            found="a graph with half weights" if is_half else "a float32 graph",
            expected=known,
        )
    device = open_device(gpu)
    operators = load_cuda_operators()
    cudnn = import_cudnn()
    with device.current():
        cache = PlanCache(plans, device.name, str(cudnn.backend_version()))
        convs = CudnnConvs(device, cudnn, operators, cache)
    return CudaExecutor(program, known, device, operators, convs, workers)
