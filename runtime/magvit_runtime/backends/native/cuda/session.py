"""The native backend's session on an NVIDIA GPU."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from importlib.metadata import version
from pathlib import Path

from magvit_runtime.backends.backend import Capabilities
from magvit_runtime.backends.native.cuda.executor import CudaExecutor, open_cuda_executor
from magvit_runtime.backends.native.session import NativeSession
from magvit_runtime.backends.trt.engines import ENGINES_FOLDER
from magvit_runtime.cuda.arrays import DeviceArray
from magvit_runtime.cuda.stage_times import StageTimes
from magvit_runtime.errors import BackendError


class CudaSession(NativeSession[CudaExecutor]):
    """A graph on an NVIDIA GPU.

    Thread-safe: any number of threads may call its methods at once; as many batches are computed at
    once as there are workers. `close` must not overlap with a run.

    The first run of a shape finds the fastest plans of its convs, which takes a while. They are
    kept in the folder `engines` beside the graph. A batch that fits into one that ran before is
    padded to that size instead.

    Args:
        graph: The ONNX file, whose digest and whose weights' digest were checked.
        precision: Precision of the graph.
        reason: Why this backend was chosen.
        workers: Batches at once, each in memory of its own; with one, the GPU idles while a batch
            is copied.
        gpu: Which GPU, among those that CUDA shows.

    Raises:
        InputError: `workers` isn't positive.
        BackendError: The graph has a node that the native backend can't run, or the library of
            operators, the GPU or cuDNN is missing.
        BundleError: The file is no ONNX model.
    """

    def __init__(
        self, graph: Path, *, precision: str, reason: str, workers: int = 1, gpu: int = 0
    ) -> None:
        super().__init__(
            graph,
            partial(
                open_cuda_executor,
                precision=precision,
                plans=graph.parent / ENGINES_FOLDER,
                workers=workers,
                gpu=gpu,
            ),
        )
        device = self._opened.device
        self._capabilities = Capabilities(
            backend="native-cuda",
            version=version("magvit-runtime"),
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
        if self._executor is None:
            return self._capabilities
        return replace(self._capabilities, launches=self._executor.launches)

    @property
    def stage_times(self) -> StageTimes | None:
        """The times of runs of host arrays, recorded once `seconds` is a list; None when closed."""
        return None if self._executor is None else self._executor.stage_times

    def run_device(self, inputs: Mapping[str, object], outputs: Sequence[str]) -> list[DeviceArray]:
        """Runs the graph once on arrays of its GPU; see `DeviceSession.run_device`."""
        executor = self._opened
        expected = {source.name for source in self._program.inputs}
        if inputs.keys() != expected:
            raise BackendError(
                "the native backend can't run these inputs",
                found=", ".join(inputs) or "none",
                expected=", ".join(sorted(expected)),
            )
        self._check_outputs(outputs)
        return executor.run_device(inputs, outputs)

    def warm_up(self, shape: Sequence[int]) -> None:
        """Makes the GPU ready for batches of a shape; see `DeviceSession.warm_up`.

        From then on batches of this size run without padding. Smaller ones are padded to the next
        size that ran or was warmed up.
        """
        self._opened.warm_up(shape)
