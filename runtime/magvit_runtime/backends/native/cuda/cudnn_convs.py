"""Convs by cuDNN, and which of them our own kernel runs faster."""

from __future__ import annotations

import gc
import logging
import threading
from typing import Any

from magvit_runtime.backends.native.cuda.conv_plans import ConvGeometry, ConvPlan, PlanCache
from magvit_runtime.backends.native.cuda.cudnn_graph import BuiltConv, Role, rejections, restore
from magvit_runtime.backends.native.cuda.cudnn_tuning import PlanTuner
from magvit_runtime.backends.native.cuda.own_convs import fits_own
from magvit_runtime.cuda.device import CudaDevice
from magvit_runtime.errors import BackendError
from magvit_runtime.native_libraries.cuda_operators import CudaOperators

_LOG = logging.getLogger(__name__)


class CudnnConvs:
    """The convs of one GPU.

    Thread-safe: calls take turns. Each stream needs a queue of its own.

    Args:
        device: The GPU, which must be current in the calling thread.
        cudnn: The module `cudnn`.
        operators: The CUDA operators, which have a conv too.
        cache: Plans that are known.
    """

    def __init__(
        self, device: CudaDevice, cudnn: Any, operators: CudaOperators, cache: PlanCache
    ) -> None:
        self._cudnn = cudnn
        self._operators = operators
        self._cache = cache
        self._built: dict[ConvGeometry, BuiltConv] = {}
        self._lock = threading.Lock()
        self._rejections = rejections(cudnn)
        self._unbuildable: tuple[type[Exception], ...] = (LookupError, *self._rejections)
        self._tuner = PlanTuner(device, cudnn, operators)

    def open_queue(self, stream: Any) -> Any:
        """A handle of cuDNN for a stream."""
        handle = self._cudnn.create_handle()
        self._cudnn.set_stream(handle, int(stream))
        return handle

    def close_queue(self, queue: Any) -> None:
        """Gives a handle back; its work must be done."""
        self._cudnn.destroy_handle(queue)

    def plan(self, geometry: ConvGeometry) -> ConvPlan:
        """The plan of a conv: a known one, or the fastest of cuDNN's and our own, timed now.

        Raises:
            BackendError: cuDNN has none, or the GPU failed.
        """
        with self._lock:
            known = self._cache.get(geometry)
            if known is not None and self._build(geometry, known):
                return known
            plan = self._tuner.fastest(geometry)
            # The losing plans are in reference cycles. They are destroyed here, and not later
            # during a stream capture.
            gc.collect()
            if not self._build(geometry, plan):
                raise BackendError(
                    f"the plan of conv {geometry.key} can't be built a second time",
                    found=f"engine {plan.engine}",
                    mend="use another precision, or backend='onnxruntime'",
                )
            self._cache.put(geometry, plan)
            self._cache.save()
            return plan

    def enqueue(
        self,
        geometry: ConvGeometry,
        queue: Any,
        *,
        image: int,
        weight: int,
        output: int,
        workspace: int,
    ) -> None:
        """Starts a conv, whose plan is cuDNN's and was asked for before, on a queue's stream.

        Args:
            geometry: The conv.
            queue: From `open_queue`.
            image: Address of the input on the GPU; channels come last.
            weight: Address of the weights, [C_out, kt, kh, kw, C_in].
            output: Address of the output; channels come last.
            workspace: Address of the plan's extra memory.

        Raises:
            BackendError: cuDNN failed.
        """
        addresses: dict[Role, int] = {"image": image, "weight": weight, "output": output}
        with self._lock:
            try:
                self._built[geometry].execute(queue, addresses, workspace)
            except self._rejections as error:
                raise BackendError(
                    f"cuDNN can't run the conv {geometry.key}", found=str(error)
                ) from error

    def close(self) -> None:
        """Frees the plans. No conv may be running."""
        self._built = {}
        self._tuner.close()

    def _build(self, geometry: ConvGeometry, plan: ConvPlan) -> bool:
        """Builds a plan if needed; says whether it is there, with no larger a workspace."""
        if plan.is_own:
            fits = fits_own(self._operators, geometry)
            if not fits:
                _LOG.warning(
                    "the plan kept for conv %s is timed again: our own conv doesn't fit here",
                    geometry.key,
                )
            return fits
        if geometry in self._built:
            return True
        try:
            built = restore(self._cudnn, geometry, plan, handle=self._tuner.handle)
        except self._unbuildable as error:
            _LOG.warning("the plan kept for conv %s is timed again: %s", geometry.key, error)
            return False
        if built.workspace <= plan.workspace:
            self._built[geometry] = built
            return True
        return False
