"""The native backend on its two devices."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

from magvit_runtime.backends.backend import Candidate, Opening, Session, Unfit
from magvit_runtime.backends.graph_candidates import graph_candidates
from magvit_runtime.backends.workers import refuse_workers
from magvit_runtime.bundle.manifest import Precision, Role
from magvit_runtime.bundle.reading import Bundle
from magvit_runtime.bundle.stamps import graph_subject
from magvit_runtime.hardware.machine import Machine
from magvit_runtime.hardware.packages import is_installed
from magvit_runtime.native_libraries.lookup import cuda_library

_CUDA_RANK, _CPU_RANK = 30, 40
_NO_FEATURES = "the native backend gives tokens and frames, and no features yet"
_NO_TRANSFORMERS = "the native backend runs convs, and no vision transformers"
_NO_CLASSIFIERS = (
    "the native backend has no classifiers on a GPU; encode there, classify on the CPU"
)
_NO_CPU_PRECISION = "the native backend computes in float32 on a CPU"


class NativeBackend:
    """Encoders, decoders and classifiers on the CPU in float32; the first two on a GPU too."""

    names = ("native", "native-cuda")

    def candidates(
        self, bundle: Bundle, role: Role, machine: Machine
    ) -> Iterator[Candidate | Unfit]:
        """See `Backend.candidates`."""
        if role in ("context", "subtokens"):
            yield from _without_transformers(bundle, role)
        if role not in ("encode", "decode", "features", "classify", "classify-clips"):
            return
        yield from graph_candidates(
            bundle,
            role,
            "native",
            device="cpu",
            rank=_CPU_RANK,
            reason="on a CPU the native backend is the fastest",
            why_not=partial(_why_not_on_cpu, bundle, role),
            open_graph=_open_on_cpu,
        )
        yield from graph_candidates(
            bundle,
            role,
            "native-cuda",
            device="cuda",
            rank=_CUDA_RANK,
            reason="the native backend can use the GPU",
            why_not=partial(_why_not_on_cuda, bundle, role, machine),
            open_graph=_open_on_gpu,
        )


def _why_no_role(bundle: Bundle, role: Role, precision: Precision) -> str:
    """Why the native backend doesn't run a bundle's graph on any device; "" where it may."""
    if role == "classify":
        kinds = [spec.kind for spec in bundle.graphs(role)[precision].inputs]
        return "" if kinds == ["ids"] else "the native backend's classifiers take ids alone"
    if role != "features":
        return ""
    graph = bundle.graphs(role)[precision]
    return _NO_FEATURES if graph.operators else _NO_TRANSFORMERS


def _why_not_on_cpu(bundle: Bundle, role: Role, precision: Precision) -> str:
    """Why the native backend doesn't run a bundle's graph on a CPU; "" where it does."""
    if why := _why_no_role(bundle, role, precision):
        return why
    return "" if precision == "fp32" else _NO_CPU_PRECISION


def _without_transformers(bundle: Bundle, role: Role) -> Iterator[Unfit]:
    why = "the native backend has no transformers"
    for precision in bundle.graphs(role):
        for name in NativeBackend.names:
            yield Unfit(graph_subject(name, precision), role, name, precision, why)


def _why_not_on_cuda(bundle: Bundle, role: Role, machine: Machine, precision: Precision) -> str:
    """Why the native backend doesn't run a bundle's graph on a GPU here; "" where it does."""
    if role in ("classify", "classify-clips"):
        return _NO_CLASSIFIERS
    return _why_no_role(bundle, role, precision) or why_no_cuda(machine, precision)


def why_no_cuda(machine: Machine, precision: Precision) -> str:
    """Why the native backend doesn't run a precision on a GPU here; "" if it does."""
    if precision == "bf16":
        return "the native backend doesn't compute in bfloat16"
    # The driver's tool is asked last, because that starts a process.
    if missing := [name for name in ("cuda", "cudnn") if not is_installed(name)]:
        return f"not installed: {', '.join(missing)} (pip install 'magvit-runtime[native-cuda]')"
    if cuda_library() is None:
        return "libmagvit_cuda.so wasn't built (docs/gpu.md)"
    return "" if machine.gpus else "there is no NVIDIA GPU here"


def _open_on_cpu(graph: Path, precision: Precision, opening: Opening) -> Session:
    from magvit_runtime.backends.native.cpu.session import CpuSession

    refuse_workers("native", opening)
    return CpuSession(graph, precision=precision, threads=opening.threads, reason=opening.reason)


def _open_on_gpu(graph: Path, precision: Precision, opening: Opening) -> Session:
    from magvit_runtime.backends.native.cuda.session import CudaSession

    workers = 1 if opening.workers is None else opening.workers
    return CudaSession(
        graph, precision=precision, reason=opening.reason, workers=workers, gpu=opening.gpu or 0
    )


BACKEND = NativeBackend()
