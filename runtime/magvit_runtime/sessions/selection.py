"""Chooses the backend that runs a graph here, and says which and why."""

from __future__ import annotations

import logging
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

from magvit_runtime.bundle import Bundle, graph_sha256
from magvit_runtime.errors import BackendError, InputError
from magvit_runtime.manifest import GraphRecord, Precision
from magvit_runtime.parity_stamps import check_stamp, graph_subject
from magvit_runtime.sessions.protocol import Session

if TYPE_CHECKING:
    from magvit_runtime.engines.finding import Engine

Backend = Literal["auto", "onnxruntime", "tensorrt", "tensorrt-rtx"]

logger = logging.getLogger(__name__)


def open_encoder(
    bundle: Bundle,
    *,
    backend: Backend = "auto",
    precision: Precision | None = None,
    threads: int | None = None,
    require_parity: bool = False,
) -> tuple[GraphRecord, Session]:
    """Opens a bundle's encoder in the best backend there is for it.

    "auto" takes an engine of the bundle where one runs here, else ONNX Runtime; the session's
    `capabilities.reason` says why.

    Args:
        bundle: The bundle.
        backend: Which backend.
        precision: Which encoder. None takes any engine, or else the most precise graph.
        threads: CPU threads of one run; None is the backend's own choice.
        require_parity: Refuse what has no valid parity stamp; nothing else is chosen instead.

    Returns:
        The encoder's graph, for its inputs and outputs, and the session.

    Raises:
        InputError: No backend has this name, or `threads` isn't positive.
        BundleError: The bundle has no such encoder, a file was changed, or a stamp is missing.
        BackendError: The backend isn't installed, has no engine here, or can't load it.
    """
    _check_backend(backend)
    reason = "asked for"
    if backend != "onnxruntime":
        engine, reason = _usable_engine(bundle, backend, precision)
        if engine is not None:
            if require_parity:
                check_stamp(bundle, engine.plan.name, engine.record.plan.sha256)
            try:
                return open_engine(bundle, engine, reason)
            except BackendError as error:
                if backend != "auto":
                    raise
                reason = f"{engine.plan.name} can't be opened: {error}"
                logger.warning("ONNX Runtime is used instead: %s", reason)
        elif backend != "auto":
            raise BackendError(
                f"{bundle.path} has no engine that {backend} can run here",
                found=reason,
                mend=f"magvit build {bundle.path} --flavour {backend}",
            )
    chosen, graph = bundle.encoder(precision)
    if require_parity:
        check_stamp(bundle, graph_subject(chosen), graph_sha256(bundle, graph))
    path = bundle.verified_graph(graph)
    return graph, _open_onnx_runtime(path, precision=chosen, threads=threads, reason=reason)


def open_graph(
    graph: Path, *, precision: str, backend: Backend = "auto", threads: int | None = None
) -> Session:
    """Opens a graph that has no engines: a classifier, or any ONNX file of a bundle.

    Args:
        graph: An ONNX file whose digest was checked.
        precision: Precision of the graph, for the record.
        backend: "auto" or "onnxruntime".
        threads: CPU threads of one run; None is the backend's own choice.

    Raises:
        InputError: The backend doesn't run graphs, or `threads` isn't positive.
        BackendError: ONNX Runtime isn't installed, or can't load the graph.
    """
    _check_backend(backend)
    if backend not in ("auto", "onnxruntime"):
        raise InputError(f"{backend} runs engines of encoders only", mend="leave `backend` out")
    reason = "it has no engine" if backend == "auto" else "asked for"
    return _open_onnx_runtime(graph, precision=precision, threads=threads, reason=reason)


def open_engine(bundle: Bundle, engine: Engine, reason: str) -> tuple[GraphRecord, Session]:
    """Opens one engine of a bundle that fits this machine.

    Args:
        bundle: The bundle.
        engine: Its engine, for which `first_mismatch` found nothing.
        reason: Why it was chosen, for the record.

    Raises:
        BundleError: The plan is missing or damaged.
        BackendError: The backend can't load it.
    """
    from magvit_runtime.sessions.tensorrt import TensorRtSession

    precision = engine.record.key.precision
    session = TensorRtSession(engine, precision=precision, reason=reason)
    return bundle.manifest.encoder[precision], session


def _check_backend(backend: str) -> None:
    if backend not in get_args(Backend):
        raise InputError(f"no backend is named {backend!r}", expected=", ".join(get_args(Backend)))


def _usable_engine(
    bundle: Bundle, backend: Backend, precision: Precision | None
) -> tuple[Engine | None, str]:
    """The first engine that runs here and why it is taken, or None and why there is none."""
    # Imported here: what it needs to look into packages would double the import of the runtime.
    from magvit_runtime.engines.finding import find_engines, first_mismatch, this_machine

    engines = [
        engine
        for engine in find_engines(bundle)
        if backend in ("auto", engine.record.key.flavour)
        and precision in (None, engine.record.key.precision)
    ]
    if not engines:
        return None, "the bundle has no engine for it"
    machine = this_machine()
    reason = ""
    # An engine that was tuned for one GPU is faster than one that was built for many.
    for engine in sorted(engines, key=lambda engine: engine.record.key.gpu is None):
        mismatch = first_mismatch(engine, bundle, machine)
        if mismatch is None:
            return engine, f"{engine.plan.name} was built for this machine"
        reason = reason or (
            f"{engine.plan.name} doesn't run here ({mismatch.what}: built for {mismatch.engine}, "
            f"here {mismatch.here})"
        )
    return None, reason


def _open_onnx_runtime(graph: Path, *, precision: str, threads: int | None, reason: str) -> Session:
    if threads is not None and threads < 1:
        raise InputError("`threads` must be positive", found=threads)
    if find_spec("onnxruntime") is None:
        raise BackendError(
            "no backend is installed",
            mend="pip install 'magvit-runtime[cpu]' (or [cuda] on a machine with an NVIDIA GPU)",
        )
    from magvit_runtime.sessions.onnx_runtime import OnnxRuntimeSession

    return OnnxRuntimeSession(graph, precision=precision, threads=threads, reason=reason)
