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
    from magvit_runtime.sessions.stage_times import StageTimes


class NativeSession(Closing):
    """An encoder on the CPU, in float32, or on an NVIDIA GPU.

    Thread-safe: any number of threads may call `run` at once. On the CPU one clip at a time is
    computed, on all of the session's threads; on a GPU one batch at a time. `close` must not
    overlap with a `run`.

    On a GPU the first run of a shape finds the fastest plans of cuDNN, which takes a while; they
    are kept in the folder `engines` beside the graph. Not run on a GPU yet.

    Args:
        graph: The ONNX file, whose digest and whose weights' digest were checked.
        precision: Precision of the graph.
        threads: CPU threads of one run; None is one for each CPU.
        reason: Why this backend was chosen.
        device: Where it runs.

    Raises:
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
    ) -> None:
        onnx = read_graph(graph)
        self._program = lower(onnx)
        self._encoder: CpuEncoder | CudaEncoder | None = (
            CpuEncoder(self._program, threads)
            if device == "cpu"
            else _open_on_gpu(self._program, precision, graph)
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
        )

    @property
    def capabilities(self) -> Capabilities:
        """What it runs on, and on a GPU how runs reach it by now."""
        if self._encoder is None or isinstance(self._encoder, CpuEncoder):
            return self._capabilities
        return replace(self._capabilities, launches=self._encoder.launches)

    @property
    def stage_times(self) -> StageTimes | None:
        """What runs take on the GPU, once its `seconds` is a list; None on a CPU."""
        if self._encoder is None or isinstance(self._encoder, CpuEncoder):
            return None
        return self._encoder.stage_times

    def run(self, inputs: Mapping[str, Array], outputs: Sequence[str]) -> list[Array]:
        """Runs the graph once; see `Session.run`."""
        if self._encoder is None:
            raise BackendError("this session is closed")
        program = self._program
        frames = inputs.get(program.frames)
        shape = [*("NTHW" if program.is_video else "NHW"), 3]
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
                expected=f"{program.frames} uint8 [{', '.join(map(str, shape))}], none of them 0",
            )
        ids, latents = self._encoder.run(frames)
        results = {program.ids_output: ids, program.latents_output: latents}
        if unknown := set(outputs) - results.keys():
            raise BackendError(f"the graph has no output {', '.join(sorted(unknown))}")
        return [results[name] for name in outputs]

    def close(self) -> None:
        """Frees the weights, the memory and the threads."""
        encoder, self._encoder = self._encoder, None
        if encoder is not None:
            encoder.close()


def _open_on_gpu(program: Program, precision: str, graph: Path) -> CudaEncoder:
    # Imported here: on a CPU nobody needs it.
    from magvit_runtime.engines.finding import ENGINES_FOLDER
    from magvit_runtime.native.cuda_encoder import open_cuda_encoder

    return open_cuda_encoder(program, precision, graph.parent / ENGINES_FOLDER)


def _describe(encoder: CpuEncoder | CudaEncoder) -> str:
    if isinstance(encoder, CpuEncoder):
        return f"CPU, {instruction_set()}"
    return f"{encoder.device.name} (compute capability {encoder.device.sm})"
