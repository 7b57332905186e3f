"""The native backend's session: an encoder's ONNX graph on operators of our own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path

import numpy as np

from magvit_runtime.closing import Closing
from magvit_runtime.errors import BackendError
from magvit_runtime.native.cpu_convs import instruction_set
from magvit_runtime.native.cpu_encoder import CpuEncoder
from magvit_runtime.native.lowering import lower
from magvit_runtime.native.onnx_file import read_graph
from magvit_runtime.sessions.protocol import Array, Capabilities


class NativeSession(Closing):
    """An encoder on the CPU, in float32.

    Thread-safe: any number of threads may call `run` at once; one clip at a time is computed, on
    all of the session's threads. `close` must not overlap with a `run`.

    Args:
        graph: The ONNX file, whose digest and whose weights' digest were checked.
        precision: Precision of the graph.
        threads: CPU threads of one run; None is one for each CPU.
        reason: Why this backend was chosen.

    Raises:
        BackendError: The graph has a node that the native backend can't run, isn't float32, or the
            library of operators is missing.
        BundleError: The file is no ONNX model.
    """

    def __init__(self, graph: Path, *, precision: str, threads: int | None, reason: str) -> None:
        onnx = read_graph(graph)
        self._program = lower(onnx)
        self._encoder: CpuEncoder | None = CpuEncoder(self._program, threads)
        onnx.tensors.release()  # Convs have laid out the weights for themselves.
        self.capabilities = Capabilities(
            backend="native",
            version=version("magvit-runtime"),
            device=f"CPU, {instruction_set()}",
            precision=precision,
            threads=self._encoder.threads,
            reason=reason,
        )

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
