"""Finds the fastest plan for a conv, by timing all and comparing results: cuDNN's and our own."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from magvit_runtime.backends.native.cuda.conv_plans import (
    OWN_ENGINE,
    ConvGeometry,
    ConvPlan,
    Padding,
)
from magvit_runtime.backends.native.cuda.cudnn_graph import (
    BuiltConv,
    Candidate,
    Role,
    plan_candidates,
    rejections,
)
from magvit_runtime.backends.native.cuda.own_convs import OwnConv, fits_own
from magvit_runtime.cuda.device import CudaDevice
from magvit_runtime.cuda.graphs import capture
from magvit_runtime.cuda.memory import DeviceBuffer
from magvit_runtime.errors import BackendError
from magvit_runtime.native_libraries.cuda_operators import CudaOperators

_LOG = logging.getLogger(__name__)

# A plan that wants more is not worth the memory.
_WORKSPACE_LIMIT = 2**30
# A plan is timed as one CUDA graph of this many launches. Launched one by one, a plan of 50 µs
# would end before the next launch, and the launches would be timed instead.
_LAUNCHES = 10
# The shortest of this many replays counts.
_ROUNDS = 3
# A plan isn't timed again if its single launch takes this many times the best one's, and more than
# the launch itself can have added. The first launch also loads its kernels.
_HOPELESS, _LAUNCH_SECONDS, _LOADING_SECONDS = 2.0, 100e-6, 20e-3
# Results are compared in this many stretches of this many elements, from the first to the last.
_STRETCHES, _STRETCH = 64, 2**15
# Engines that a plan's results are compared with, until one agrees.
_WITNESSES = 3
# Largest difference of two engines' results, in root mean squares of the result. Rounding alone
# stays below a third of it at the largest of the encoder's convs.
_TOLERANCES = {"fp16": 2e-2, "tf32": 2e-2, "fp32": 1e-3}
# Our own conv is taken up to this share of the fastest plan's time, because it saves the pass that
# follows: it adds bias and residual itself, and takes the moments.
_OWN_SHARE = 1.05


class _RejectedPlanError(Exception):
    """A plan that isn't used, and why."""


@dataclass(frozen=True)
class _TimedPlan:
    """A plan that was timed, still built."""

    plan: ConvPlan
    built: BuiltConv | OwnConv

    @property
    def rank(self) -> float:
        """The smaller, the better."""
        return self.plan.microseconds / (_OWN_SHARE if self.plan.is_own else 1.0)


class PlanTuner:
    """Times plans on one GPU. Not thread-safe.

    Args:
        device: The GPU, which must be current in the calling thread.
        cudnn: The module `cudnn`.
        operators: The CUDA operators.
    """

    def __init__(self, device: CudaDevice, cudnn: Any, operators: CudaOperators) -> None:
        self._device = device
        self._cudnn = cudnn
        self._operators = operators
        self._rejections: tuple[type[Exception], ...] = (_RejectedPlanError, *rejections(cudnn))
        self._stream = device.new_stream()
        self.handle = cudnn.create_handle()
        cudnn.set_stream(self.handle, int(self._stream))
        flags = device.runtime.cudaEventDefault
        self._events = [device.call("cudaEventCreateWithFlags", flags) for _ in range(2)]

    def fastest(self, geometry: ConvGeometry) -> ConvPlan:
        """The fastest plan whose results another engine confirms.

        Raises:
            BackendError: cuDNN has no plan, no two engines agree, or the GPU failed.
        """
        refusals: list[str] = []
        scratch = _Scratch(self._device, geometry)
        try:
            timed = list(self._time_all(geometry, scratch, refusals))
            timed.sort(key=lambda candidate: candidate.rank)
            confirmed = self._first_confirmed(geometry, timed, scratch, refusals)
        finally:
            scratch.close()
        if confirmed is None:
            raise BackendError(
                f"cuDNN has no plan for the conv {geometry.key} on {self._device.name}",
                found=refusals[-1] if refusals else "no candidate",
                mend="use another precision, or backend='onnxruntime'",
            )
        return confirmed

    def close(self) -> None:
        """Frees the queue. No work may be under way."""
        self._cudnn.destroy_handle(self.handle)
        for event in self._events:
            self._device.call("cudaEventDestroy", event)
        self._device.call("cudaStreamDestroy", self._stream)

    def _time_all(
        self, geometry: ConvGeometry, scratch: _Scratch, refusals: list[str]
    ) -> Iterator[_TimedPlan]:
        """Every plan with every kind of padding; what can't be used goes to the refusals."""
        best = math.inf
        for padding in geometry.paddings:
            candidates: list[Candidate | OwnConv] = []
            try:
                candidates += plan_candidates(self._cudnn, geometry, padding, handle=self.handle)
            except self._rejections as error:
                refusals.append(str(error))
            if padding == "implied" and fits_own(self._operators, geometry):
                candidates.append(OwnConv(self._operators, geometry, int(self._stream)))
            for candidate in candidates:
                try:
                    timed = self._time(candidate, padding, scratch, best)
                except self._rejections as error:
                    refusals.append(str(error))
                    if candidate.engine == OWN_ENGINE:
                        _LOG.warning("conv %s: %s", geometry.key, error)
                    continue
                best = min(best, timed.plan.microseconds / 1e6)
                yield timed

    def _time(
        self, candidate: Candidate | OwnConv, padding: Padding, scratch: _Scratch, best: float
    ) -> _TimedPlan:
        built = candidate.build()
        workspace = self._workspace(built)
        try:
            seconds = self._seconds(
                lambda: built.execute(self.handle, scratch.addresses, workspace.pointer), best
            )
        finally:
            self._device.synchronize(self._stream)
            workspace.close()
        microseconds = round(seconds * 1e6, 2)
        plan = ConvPlan(padding, candidate.engine, candidate.knobs, built.workspace, microseconds)
        return _TimedPlan(plan, built)

    def _workspace(self, built: BuiltConv | OwnConv) -> DeviceBuffer:
        if built.workspace > _WORKSPACE_LIMIT:
            raise _RejectedPlanError(f"a plan needs {built.workspace} bytes of workspace")
        try:
            return DeviceBuffer(self._device, built.workspace)
        except BackendError as error:
            # If the error stays unread, the next call reports it.
            self._device.runtime.cudaGetLastError()
            raise _RejectedPlanError(f"no memory for a plan's workspace: {error}") from error

    def _seconds(self, launch: Callable[[], None], best: float) -> float:
        """GPU time of a launch."""
        device = self._device
        for extra in (_LOADING_SECONDS, _LAUNCH_SECONDS):
            once = self._elapsed(launch)
            if once > _HOPELESS * best + extra:
                return once

        def launches() -> None:
            for _ in range(_LAUNCHES):
                launch()

        try:
            executable = capture(device, self._stream, launches)
        except BackendError as error:
            raise _RejectedPlanError(f"a plan can't be captured: {error}") from error
        try:
            return (
                min(
                    self._elapsed(lambda: device.call("cudaGraphLaunch", executable, self._stream))
                    for _ in range(_ROUNDS)
                )
                / _LAUNCHES
            )
        finally:
            device.synchronize(self._stream)
            device.call("cudaGraphExecDestroy", executable)

    def _elapsed(self, launch: Callable[[], None]) -> float:
        device, (start, end) = self._device, self._events
        device.call("cudaEventRecord", start, self._stream)
        launch()
        device.call("cudaEventRecord", end, self._stream)
        device.synchronize(self._stream)
        return float(device.call("cudaEventElapsedTime", start, end)) / 1e3

    def _first_confirmed(
        self,
        geometry: ConvGeometry,
        timed: list[_TimedPlan],
        scratch: _Scratch,
        refusals: list[str],
    ) -> ConvPlan | None:
        """The first plan that agrees with one of another engine; those before it are named.

        Only plans of the same padding are compared, because the scratch data is another input with
        another padding. An engine that is alone with its padding is accepted. Our own kernel
        confirms no other.
        """
        tolerance = _TOLERANCES[geometry.precision]
        for candidate in timed:
            witnesses = _other_engines(candidate, timed)
            if not witnesses:
                return candidate.plan
            try:
                found = self._results(candidate, scratch)
                if any(_agree(found, self._results(w, scratch), tolerance) for w in witnesses):
                    return candidate.plan
            except self._rejections as error:
                refusals.append(str(error))
                continue
            others = ", ".join(str(witness.plan.engine) for witness in witnesses)
            name = "our own kernel" if candidate.plan.is_own else f"engine {candidate.plan.engine}"
            refusals.append(f"{name} computes something else than cuDNN's engine {others}")
            _LOG.warning("conv %s: a plan is not used: %s", geometry.key, refusals[-1])
        return None

    def _results(self, timed: _TimedPlan, scratch: _Scratch) -> NDArray[np.float32]:
        """A plan's results on the scratch data."""
        workspace = self._workspace(timed.built)
        try:
            timed.built.execute(self.handle, scratch.addresses, workspace.pointer)
        finally:
            self._device.synchronize(self._stream)
            workspace.close()
        return scratch.output_samples()


def _other_engines(candidate: _TimedPlan, timed: list[_TimedPlan]) -> list[_TimedPlan]:
    """The fastest plan of a few other engines of cuDNN that have the candidate's padding."""
    chosen: dict[int, _TimedPlan] = {}
    for other in timed:
        if other.plan.padding == candidate.plan.padding and not other.plan.is_own:
            chosen.setdefault(other.plan.engine, other)
    chosen.pop(candidate.plan.engine, None)
    return list(chosen.values())[:_WITNESSES]


def _agree(a: NDArray[np.float32], b: NDArray[np.float32], tolerance: float) -> bool:
    scale = float(np.sqrt(np.mean(np.square(b, dtype=np.float64))))
    # Written so that NaN counts as a difference, and a result of zeros agrees with nothing.
    return 0.0 < scale < math.inf and bool(np.max(np.abs(a - b)) <= tolerance * scale)


class _Scratch:
    """Tensors of a conv with random values. With zeros, GPUs would draw less power and run faster.

    Attributes:
        addresses: Where they lie on the GPU.
    """

    def __init__(self, device: CudaDevice, geometry: ConvGeometry) -> None:
        self._device = device
        self._dtype = np.dtype(np.float16 if geometry.precision == "fp16" else np.float32)
        noise = np.random.default_rng(0).standard_normal(2**18).astype(self._dtype)
        elements: dict[Role, int] = {
            "image": geometry.batch * math.prod(geometry.padded_sizes) * geometry.in_channels,
            "weight": geometry.out_channels * math.prod(geometry.kernel) * geometry.in_channels,
            "output": geometry.batch * math.prod(geometry.output_sizes) * geometry.out_channels,
        }
        self._output_elements = elements["output"]
        self._buffers: list[DeviceBuffer] = []
        self.addresses: dict[Role, int] = {}
        try:
            for role, count in elements.items():
                buffer = DeviceBuffer(device, count * self._dtype.itemsize)
                self._buffers.append(buffer)
                self.addresses[role] = buffer.pointer
                self._fill(buffer, noise)
        except BaseException:
            self.close()
            raise

    def output_samples(self) -> NDArray[np.float32]:
        """Stretches of the output, from its first element to its last."""
        copy = self._device.runtime.cudaMemcpyKind.cudaMemcpyDeviceToHost
        length = min(_STRETCH, self._output_elements)
        starts = np.unique(
            np.linspace(0, self._output_elements - length, _STRETCHES, dtype=np.int64)
        )
        stretches = np.empty((len(starts), length), self._dtype)
        for stretch, start in zip(stretches, starts.tolist(), strict=True):
            source = self.addresses["output"] + start * self._dtype.itemsize
            self._device.call("cudaMemcpy", stretch.ctypes.data, source, stretch.nbytes, copy)
        return stretches.astype(np.float32)

    def close(self) -> None:
        """Frees the memory. No work that uses it may be under way."""
        for buffer in self._buffers:
            buffer.close()

    def _fill(self, buffer: DeviceBuffer, noise: NDArray[Any]) -> None:
        copy = self._device.runtime.cudaMemcpyKind.cudaMemcpyHostToDevice
        for begin in range(0, buffer.size, noise.nbytes):
            size = min(noise.nbytes, buffer.size - begin)
            self._device.call("cudaMemcpy", buffer.pointer + begin, noise.ctypes.data, size, copy)
