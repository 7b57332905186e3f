"""The native backend's session on the CPU."""

from __future__ import annotations

from functools import partial
from importlib.metadata import version
from pathlib import Path

from magvit_runtime.backends.backend import Capabilities
from magvit_runtime.backends.native.cpu.convs import instruction_set
from magvit_runtime.backends.native.cpu.executor import CpuExecutor
from magvit_runtime.backends.native.session import NativeSession


class CpuSession(NativeSession[CpuExecutor]):
    """A graph on the CPU, in float32.

    Thread-safe: any number of threads may call its methods at once; one clip at a time is computed,
    on all of the session's threads. `close` must not overlap with a run.

    Args:
        graph: The ONNX file, whose digest and whose weights' digest were checked.
        precision: Precision of the graph.
        threads: CPU threads of one run; None is one for each CPU.
        reason: Why this backend was chosen.

    Raises:
        BackendError: The graph has a node that the native backend can't run or isn't float32, or
            the library of operators is missing.
        BundleError: The file is no ONNX model.
    """

    def __init__(self, graph: Path, *, precision: str, threads: int | None, reason: str) -> None:
        super().__init__(graph, partial(CpuExecutor, threads=threads))
        self._capabilities = Capabilities(
            backend="native",
            version=version("magvit-runtime"),
            device=f"CPU, {instruction_set()}",
            precision=precision,
            threads=self._opened.threads,
            reason=reason,
        )

    @property
    def capabilities(self) -> Capabilities:
        """What it runs on."""
        return self._capabilities

    @property
    def stage_times(self) -> None:
        """None: there is no GPU."""
