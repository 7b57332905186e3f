"""The part that the native backend's sessions have in common on every device."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Generic, Protocol, TypeVar

from magvit_runtime.backends.backend import Array
from magvit_runtime.backends.native.lowering import lower
from magvit_runtime.backends.native.program import Program
from magvit_runtime.bundle.onnx_file import read_graph
from magvit_runtime.closing import Closing, freed_with
from magvit_runtime.errors import BackendError


class Executor(Protocol):
    """Runs one program on one device."""

    def run(self, inputs: Mapping[str, Array], outputs: Sequence[str]) -> list[Array]:
        """Runs it once, on inputs and outputs that the program has."""

    def close(self) -> None:
        """Frees what it holds; a second call does nothing."""


ExecutorT = TypeVar("ExecutorT", bound=Executor)


class NativeSession(Closing, Generic[ExecutorT]):
    """A graph, read as a program and held by the executor of a device.

    It stays in the process that opened it: a forked one has neither its threads nor its GPU. (A
    `Door` opens another.)

    Args:
        graph: The ONNX file, whose digest and whose weights' digest were checked.
        open_executor: Opens the executor; it takes the weights as it needs them.

    Raises:
        BackendError: The graph has a node that the native backend can't run, or the executor fails.
        BundleError: The file is no ONNX model.
    """

    def __init__(self, graph: Path, open_executor: Callable[[Program], ExecutorT]) -> None:
        onnx = read_graph(graph)
        self._program = lower(onnx)
        executor = open_executor(self._program)
        self._executor: ExecutorT | None = executor
        self._free = freed_with(self, executor.close)
        onnx.tensors.release()
        self._process = os.getpid()

    def run(self, inputs: Mapping[str, Array], outputs: Sequence[str]) -> list[Array]:
        """Runs the graph once; see `Session.run`."""
        executor = self._opened
        for source in self._program.inputs:
            array = inputs.get(source.name)
            if array is None or not source.takes(array.dtype, array.shape):
                raise BackendError(
                    "the native backend can't run these inputs",
                    found=", ".join(f"{k} {a.dtype} {list(a.shape)}" for k, a in inputs.items()),
                    expected=source.description,
                )
        self._check_outputs(outputs)
        return executor.run(inputs, outputs)

    def close(self) -> None:
        """Frees the weights, the memory and the threads, as dropping the session does."""
        self._executor = None
        self._free()

    @property
    def _opened(self) -> ExecutorT:
        if self._executor is None:
            raise BackendError("this session is closed")
        if self._process != os.getpid():
            raise BackendError(
                "this session was opened before the process forked",
                mend="open the bundle in each process, or start processes by 'spawn'",
            )
        return self._executor

    def _check_outputs(self, outputs: Sequence[str]) -> None:
        unknown = set(outputs) - {output.name for output in self._program.outputs}
        if unknown:
            raise BackendError(f"the graph has no output {', '.join(sorted(unknown))}")
