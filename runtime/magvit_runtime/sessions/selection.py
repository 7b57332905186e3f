"""Chooses the backend that runs a graph here, and says which and why."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Literal, get_args

from magvit_runtime.errors import BackendError, InputError
from magvit_runtime.sessions.protocol import Session

Backend = Literal["auto", "onnxruntime"]


def open_session(
    graph: Path, *, precision: str, backend: Backend = "auto", threads: int | None = None
) -> Session:
    """Loads a graph into a backend.

    Args:
        graph: An ONNX file whose digest was checked.
        precision: Precision of the graph, for the record.
        backend: "auto" takes the best that this machine can do.
        threads: CPU threads of one run; None is the backend's own choice.

    Raises:
        InputError: No backend has this name, or `threads` isn't positive.
        BackendError: The backend isn't installed, or can't load the graph.
    """
    if backend not in get_args(Backend):
        raise InputError(f"no backend is named {backend!r}", expected=", ".join(get_args(Backend)))
    if threads is not None and threads < 1:
        raise InputError("`threads` must be positive", found=threads)
    if find_spec("onnxruntime") is None:
        raise BackendError(
            "no backend is installed",
            mend="pip install 'magvit-runtime[cpu]' (or [cuda] on a machine with an NVIDIA GPU)",
        )
    from magvit_runtime.sessions.onnx_runtime import OnnxRuntimeSession

    reason = "the only backend for this machine" if backend == "auto" else "asked for"
    return OnnxRuntimeSession(graph, precision=precision, threads=threads, reason=reason)
