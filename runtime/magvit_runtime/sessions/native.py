"""The native backend's session: an encoder's ONNX graph on operators of our own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from magvit_runtime.closing import Closing
from magvit_runtime.errors import BackendError
from magvit_runtime.native.cpu_convs import instruction_set
from magvit_runtime.native.cpu_encoder import CpuEncoder
from magvit_runtime.native.lowering import lower
from magvit_runtime.native.onnx_file import read_graph
from magvit_runtime.native.program import Program
from magvit_runtime.sessions.protocol import Array, Capabilities

if TYPE_CHECKING:
    from magvit_runtime.native.cuda_encoder import CudaEncoder
    from magvit_runtime.sessions.device_arrays import DeviceArray
    from magvit_runtime.sessions.stage_times import StageTimes


class NativeSession(Closing):
    """An encoder on the CPU, in float32, or on an NVIDIA GPU.

    Thread-safe: any number of threads may call its methods at once. On the CPU one clip at a time
    is computed, on all of the session's threads; on a GPU as many batches as there are workers.
    `close` must not overlap with a run.

    On a GPU the first run of a shape finds the fastest plans of cuDNN, which takes a while; they
    are kept in the folder `engines` beside the graph. A batch that fits into one that ran before is
    filled up to it instead. Not run on a GPU yet.

    Args:
        graph: The ONNX file, whose digest and whose weights' digest were checked.
        precision: Precision of the graph.
        threads: CPU threads of one run; None is one for each CPU.
        reason: Why this backend was chosen.
        device: Where it runs.
        workers: Batches at once on a GPU, each in memory of its own; with one, the GPU idles while
            a batch is copied. A CPU has none.

    Raises:
        InputError: `workers` isn't positive.
        BackendError: The graph has a node that the native backend can't run, isn't float32 on a
            CPU, or what the device needs (library of operators, GPU, cuDNN) is missing.
        BundleError: The file is no ONNX model.
    """

    def __init__(
        self,
        graph: Path,
        *,
        precision: str,
        threads: int | None,
        reason: str,
        device: Literal["cpu", "cuda"] = "cpu",
        workers: int = 1,
    ) -> None:
        onnx = read_graph(graph)
        self._program = lower(onnx)
        self._encoder: CpuEncoder | CudaEncoder | None = (
            CpuEncoder(self._program, threads)
            if device == "cpu"
            else _open_on_gpu(self._program, precision, graph, workers)
        )
        onnx.tensors.release()  # The encoder has the weights as it needs them.
        self._capabilities = Capabilities(
            backend="native" if device == "cpu" else "native-cuda",
            version=version("magvit-runtime"),
            device=_describe(self._encoder),
            precision=precision,
            threads=self._encoder.threads if isinstance(self._encoder, CpuEncoder) else 0,
            reason=reason,
            workers=0 if isinstance(self._encoder, CpuEncoder) else self._encoder.workers,
            device_arrays=device == "cuda",
        )

    @property
    def capabilities(self) -> Capabilities:
        """What it runs on, and on a GPU how runs reach it by now."""
        if self._encoder is None or isinstance(self._encoder, CpuEncoder):
            return self._capabilities
        return replace(self._capabilities, launches=self._encoder.launches)

    @property
    def stage_times(self) -> StageTimes | None:
        """What runs of host arrays take on the GPU, once its `seconds` is a list; None on a CPU."""
        if self._encoder is None or isinstance(self._encoder, CpuEncoder):
            return None
        return self._encoder.stage_times

    def run(self, inputs: Mapping[str, Array], outputs: Sequence[str]) -> list[Array]:
        """Runs the graph once; see `Session.run`."""
        encoder = self._opened()
        frames = inputs.get(self._program.frames)
        shape = [*("NTHW" if self._program.is_video else "NHW"), 3]
        if (
            frames is None
            or frames.dtype != np.uint8
            or frames.ndim != len(shape)
            or frames.shape[-1] != 3
            or not frames.size
        ):
            given = ", ".join(f"{name} {a.dtype} {list(a.shape)}" for name, a in inputs.items())
            raise BackendError(
                "the native backend can't run these inputs",
                found=given,
                expected=f"{self._program.frames} uint8 [{', '.join(map(str, shape))}], "
                "none of them 0",
            )
        self._check_outputs(outputs)
        if not isinstance(encoder, CpuEncoder):
            return encoder.run(frames, outputs)
        ids, latents = encoder.run(frames)
        results = {self._program.ids_output: ids, self._program.latents_output: latents}
        return [results[name] for name in outputs]

    def run_device(self, inputs: Mapping[str, object], outputs: Sequence[str]) -> list[DeviceArray]:
        """Runs the graph once on an array of its GPU; see `DeviceSession.run_device`."""
        encoder = self._on_gpu()
        if inputs.keys() != {self._program.frames}:
            raise BackendError(
                "the native backend can't run these inputs",
                found=", ".join(inputs) or "none",
                expected=self._program.frames,
            )
        self._check_outputs(outputs)
        return encoder.run_device(inputs[self._program.frames], outputs)

    def warm_up(self, shape: Sequence[int]) -> None:
        """Makes a GPU ready for batches of a shape; see `DeviceSession.warm_up`.

        From then on batches of just this size run as they are. Smaller ones that neither ran nor
        were warmed up are filled up to the next size that was.
        """
        self._on_gpu().warm_up(shape)

    def close(self) -> None:
        """Frees the weights, the memory and the threads."""
        encoder, self._encoder = self._encoder, None
        if encoder is not None:
            encoder.close()

    def _opened(self) -> CpuEncoder | CudaEncoder:
        if self._encoder is None:
            raise BackendError("this session is closed")
        return self._encoder

    def _on_gpu(self) -> CudaEncoder:
        encoder = self._opened()
        if isinstance(encoder, CpuEncoder):
            raise BackendError("this session is on the CPU", mend="use `run`, with NumPy arrays")
        return encoder

    def _check_outputs(self, outputs: Sequence[str]) -> None:
        unknown = set(outputs) - {self._program.ids_output, self._program.latents_output}
        if unknown:
            raise BackendError(f"the graph has no output {', '.join(sorted(unknown))}")


def _open_on_gpu(program: Program, precision: str, graph: Path, workers: int) -> CudaEncoder:
    # Imported here: on a CPU nobody needs it.
    from magvit_runtime.engines.finding import ENGINES_FOLDER
    from magvit_runtime.native.cuda_encoder import open_cuda_encoder

    return open_cuda_encoder(program, precision, graph.parent / ENGINES_FOLDER, workers)


def _describe(encoder: CpuEncoder | CudaEncoder) -> str:
    if isinstance(encoder, CpuEncoder):
        return f"CPU, {instruction_set()}"
    return f"{encoder.device.name} (compute capability {encoder.device.sm})"
