"""Chooses the backend that runs a graph here, and says which and why."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from importlib.util import find_spec
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

from magvit_runtime.bundle import Bundle, graph_sha256
from magvit_runtime.errors import BackendError, InputError
from magvit_runtime.manifest import GraphRecord, Precision
from magvit_runtime.parity_stamps import check_stamp, graph_subject
from magvit_runtime.sessions.graph_backends import (
    GRAPH_BACKENDS,
    GraphBackend,
    onnxruntime_has_gpu,
    why_not,
)
from magvit_runtime.sessions.protocol import Session
from magvit_runtime.tuning_file import tuned_seconds

if TYPE_CHECKING:
    from magvit_runtime.engines.finding import Engine

Backend = Literal["auto", "native", "native-cuda", "onnxruntime", "tensorrt", "tensorrt-rtx"]

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Option:
    """One way to run a bundle's encoder here.

    Attributes:
        subject: Name of its parity stamp and of its time in tuning.json.
        backend: Backend.
        precision: Precision of the graph.
        sha256: Digest of the graph with its weights, or of the plan.
        graph: Its inputs and outputs.
        reason: Why it may be chosen.
        open: Opens it; takes the reason for the record.
    """

    subject: str
    backend: Backend
    precision: Precision
    sha256: str
    graph: GraphRecord
    reason: str
    open: Callable[[str], Session]


def open_encoder(
    bundle: Bundle,
    *,
    backend: Backend = "auto",
    precision: Precision | None = None,
    threads: int | None = None,
    workers: int | None = None,
    require_parity: bool = False,
) -> tuple[GraphRecord, Session]:
    """Opens a bundle's encoder in the best backend there is for it.

    "auto" takes the fastest option that `magvit tune` timed on this machine, else the first of
    `find_options` that can be opened; the session's `capabilities.reason` says why.

    Args:
        bundle: The bundle.
        backend: Which backend.
        precision: Which encoder. None takes any engine, or else the most precise graph.
        threads: CPU threads of one run; None is the backend's own choice.
        workers: Batches at once on a GPU; None is one. Only a GPU's backends take it.
        require_parity: Refuse what has no valid parity stamp; nothing else is chosen instead.

    Returns:
        The encoder's graph, for its inputs and outputs, and the session.

    Raises:
        InputError: No backend has this name, `threads` or `workers` isn't positive, or the backend
            chosen has no workers.
        BundleError: The bundle has no such encoder, a file was changed, or a stamp is missing.
        BackendError: The backend isn't installed, has no engine here, or can't load it.
    """
    _check(backend, threads)
    if workers is not None and workers < 1:
        raise InputError("`workers` must be positive", found=workers)
    options = find_options(bundle, precision=precision, threads=threads, workers=workers)
    if backend == "auto":
        return _open_first(bundle, _fastest_first(bundle, options), require_parity)
    asked_for = next((option for option in options if option.backend == backend), None)
    if asked_for is None and backend in ("native", "native-cuda"):
        chosen = bundle.graph("encode", precision)[0]
        raise BackendError(
            f"{backend} can't run the {chosen} graph of {bundle.path} here",
            found=why_not(backend, chosen),
            mend="use another precision or backend",
        )
    if asked_for is None:
        raise BackendError(
            f"{bundle.path} has no engine that {backend} can run here",
            found=_usable_engines(bundle, precision, backend)[1],
            mend=f"magvit build {bundle.path} --flavour {backend}",
        )
    if require_parity:
        check_stamp(bundle, "encode", asked_for.subject, asked_for.sha256)
    return asked_for.graph, asked_for.open("asked for")


def find_options(
    bundle: Bundle,
    *,
    precision: Precision | None = None,
    threads: int | None = None,
    workers: int | None = None,
) -> list[Option]:
    """The ways to run a bundle's encoder here, in the order that holds where nothing was timed.

    Engines that fit this machine come first, then the graph: on a GPU in ONNX Runtime, then in the
    native backend; on a CPU the other way round, as the native backend is the faster one there.

    Args:
        bundle: The bundle.
        precision: Which encoder. None takes any engine, and the most precise graph.
        threads: CPU threads of one run.
        workers: Batches at once on a GPU; to open an option that has none is an InputError.

    Raises:
        BundleError: The bundle has no such encoder, or an engine's sidecar is malformed.
    """
    engines, why_none = _usable_engines(bundle, precision)
    options = [
        Option(
            subject=engine.plan.name,
            backend=engine.record.key.flavour,
            precision=engine.record.key.precision,
            sha256=engine.record.plan.sha256,
            graph=bundle.graphs("encode")[engine.record.key.precision],
            reason=f"{engine.plan.name} was built for this machine",
            open=partial(open_engine, engine, workers=workers),
        )
        for engine in engines
    ]
    chosen, graph = bundle.graph("encode", precision)
    backends = [backend for backend in GRAPH_BACKENDS if not why_not(backend, chosen)]
    if onnxruntime_has_gpu():
        backends.sort(key=lambda backend: backend != "onnxruntime")
        where = "ONNX Runtime can use the GPU"
    elif backends[0] == "native-cuda":
        where = "the native backend can use the GPU"
    elif backends[0] == "native":
        where = "on a CPU the native backend is the fastest"
    else:
        where = why_not("native", chosen)
    return options + [
        Option(
            subject=graph_subject(backend, chosen),
            backend=backend,
            precision=chosen,
            sha256=graph_sha256(bundle, graph),
            graph=graph,
            reason=f"{why_none}, and {where}" if backend == backends[0] else why_none,
            open=partial(_open_verified, bundle, backend, chosen, threads, workers),
        )
        for backend in backends
    ]


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
        InputError: The backend runs encoders only, or `threads` isn't positive.
        BackendError: ONNX Runtime isn't installed, or can't load the graph.
    """
    _check(backend, threads)
    if backend not in ("auto", "onnxruntime"):
        raise InputError(f"{backend} runs encoders only", mend="leave `backend` out")
    reason = "only ONNX Runtime runs it" if backend == "auto" else "asked for"
    return _open_onnx_runtime(graph, precision=precision, threads=threads, reason=reason)


def open_engine(engine: Engine, reason: str, *, workers: int | None = None) -> Session:
    """Opens one engine of a bundle that fits this machine.

    Args:
        engine: The engine, for which `first_mismatch` found nothing.
        reason: Why it was chosen, for the record.
        workers: Batches at once; None is one.

    Raises:
        InputError: `workers` isn't positive.
        BundleError: The plan is missing or damaged.
        BackendError: The backend can't load it.
    """
    from magvit_runtime.sessions.tensorrt import TensorRtSession

    precision = engine.record.key.precision
    workers = 1 if workers is None else workers
    return TensorRtSession(engine, precision=precision, workers=workers, reason=reason)


def _check(backend: str, threads: int | None) -> None:
    if backend not in get_args(Backend):
        raise InputError(f"no backend is named {backend!r}", expected=", ".join(get_args(Backend)))
    if threads is not None and threads < 1:
        raise InputError("`threads` must be positive", found=threads)


def _open_first(
    bundle: Bundle, options: Sequence[Option], require_parity: bool
) -> tuple[GraphRecord, Session]:
    """The first option that can be opened; a stamp is asked of each that is tried."""
    failures: list[str] = []
    for option in options:
        if require_parity:
            check_stamp(bundle, "encode", option.subject, option.sha256)
        try:
            return option.graph, option.open("; ".join([*failures, option.reason]))
        except BackendError as error:
            if option is options[-1]:
                raise
            failures.append(f"{option.subject} can't be opened: {error}")
            logger.warning("%s; another backend is used instead", failures[-1])
    raise AssertionError("ONNX Runtime is always an option")


def _fastest_first(bundle: Bundle, options: Sequence[Option]) -> list[Option]:
    """Options that were timed on this machine by their time, then the others as they are."""
    seconds = tuned_seconds(bundle, {option.subject: option.sha256 for option in options})
    timed = [
        replace(option, reason=f"the fastest of {len(seconds)} that `magvit tune` timed here")
        for option in sorted(options, key=lambda option: seconds.get(option.subject, inf))
        if option.subject in seconds
    ]
    return timed + [option for option in options if option.subject not in seconds]


def _usable_engines(
    bundle: Bundle, precision: Precision | None, flavour: str | None = None
) -> tuple[list[Engine], str]:
    """Engines that run here, the best first, and why there is none."""
    # Imported here: what it needs to look into packages would double the import of the runtime.
    from magvit_runtime.engines.finding import find_engines, first_mismatch, this_machine

    engines = [
        engine
        for engine in find_engines(bundle, "encode")
        if precision in (None, engine.record.key.precision)
        and flavour in (None, engine.record.key.flavour)
    ]
    if not engines:
        return [], "the bundle has no engine for it"
    machine = this_machine()
    usable: list[Engine] = []
    reasons: list[str] = []
    # An engine that was tuned for one GPU is faster than one that was built for many.
    for engine in sorted(engines, key=lambda engine: engine.record.key.gpu is None):
        mismatch = first_mismatch(engine, bundle, machine)
        if mismatch is None:
            usable.append(engine)
        else:
            reasons.append(
                f"{engine.plan.name} doesn't run here ({mismatch.what}: built for "
                f"{mismatch.engine}, here {mismatch.here})"
            )
    return usable, "" if usable else reasons[0]


def _open_verified(
    bundle: Bundle,
    backend: GraphBackend,
    precision: Precision,
    threads: int | None,
    workers: int | None,
    reason: str,
) -> Session:
    if workers is not None and backend != "native-cuda":
        raise InputError(
            f"{backend} has no workers, which are for GPUs",
            found=f"`workers` of {workers}",
            mend="leave `workers` out, or pass backend='native-cuda' or an engine's",
        )
    path = bundle.verified_graph(bundle.graphs("encode")[precision])
    if backend == "onnxruntime":
        return _open_onnx_runtime(path, precision=precision, threads=threads, reason=reason)
    from magvit_runtime.sessions.native import NativeSession

    return NativeSession(
        path,
        precision=precision,
        threads=threads,
        reason=reason,
        device="cuda" if backend == "native-cuda" else "cpu",
        workers=1 if workers is None else workers,
    )


def _open_onnx_runtime(graph: Path, *, precision: str, threads: int | None, reason: str) -> Session:
    if find_spec("onnxruntime") is None:
        raise BackendError(
            "ONNX Runtime isn't installed",
            mend="pip install 'magvit-runtime[cpu]' (or [cuda] on a machine with an NVIDIA GPU)",
        )
    from magvit_runtime.sessions.onnx_runtime import OnnxRuntimeSession

    return OnnxRuntimeSession(graph, precision=precision, threads=threads, reason=reason)
