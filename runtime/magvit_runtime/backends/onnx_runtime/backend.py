"""ONNX Runtime as a backend: any role, any precision, on a GPU if its build can use one."""

from __future__ import annotations

from collections.abc import Iterable
from importlib.util import find_spec
from pathlib import Path

from magvit_runtime.backends.backend import Candidate, Opening, Session, Unfit
from magvit_runtime.backends.graph_candidates import graph_candidates
from magvit_runtime.backends.workers import refuse_workers
from magvit_runtime.bundle.manifest import Precision, Role
from magvit_runtime.bundle.reading import Bundle
from magvit_runtime.hardware.machine import Machine
from magvit_runtime.hardware.packages import is_installed, missing_package

_RANK_ON_GPU, _RANK = 20, 50
# Roles whose sessions run in turn, many times a second: one's threads that wait for more work, as
# they do by default, take the CPU from the other's.
IN_TURN: tuple[Role, ...] = ("context", "subtokens")


class OnnxRuntimeBackend:
    """Runs graphs in ONNX Runtime."""

    names = ("onnxruntime",)

    def candidates(
        self, bundle: Bundle, role: Role, machine: Machine
    ) -> Iterable[Candidate | Unfit]:
        """See `Backend.candidates`."""
        missing = missing_package("onnxruntime", "this graph")
        why = "" if is_installed("onnxruntime") else missing.what
        # A state lies in the memory of this process: copied to a GPU and back, it would cost more
        # than the GPU saves.
        on_gpu = role not in IN_TURN and _is_built_for_gpus() and bool(machine.gpus)
        return graph_candidates(
            bundle,
            role,
            *self.names,
            device="cuda" if on_gpu else "cpu",
            rank=_RANK_ON_GPU if on_gpu else _RANK,
            reason="ONNX Runtime can use the GPU" if on_gpu else "",
            # Once installed, ONNX Runtime itself says what it can't run when it opens a graph.
            why_not=lambda _: why,
            fix=missing.mend or "",
            open_graph=_open_in_turn if role in IN_TURN else _open,
        )


def _is_built_for_gpus() -> bool:
    # By its files. Importing it takes long, and a forked process that has it can end only by
    # `os._exit`: its own destructors wait for threads of the parent.
    spec = find_spec("onnxruntime")
    if spec is None or spec.origin is None:
        return False
    return any((Path(spec.origin).parent / "capi").glob("*onnxruntime_providers_cuda.*"))


def _open(graph: Path, precision: Precision, opening: Opening) -> Session:
    refuse_workers("onnxruntime", opening)
    return open_graph(
        graph,
        precision=precision,
        threads=opening.threads,
        reason=opening.reason,
        gpu=opening.gpu,
    )


def _open_in_turn(graph: Path, precision: Precision, opening: Opening) -> Session:
    from magvit_runtime.backends.onnx_runtime.session import OnnxRuntimeSession

    refuse_workers("onnxruntime", opening)
    return OnnxRuntimeSession(
        graph,
        precision=precision,
        threads=opening.threads,
        reason=opening.reason,
        gpu=None,
        in_turn=True,
    )


def open_graph(
    graph: Path,
    *,
    precision: str,
    threads: int | None = None,
    reason: str = "asked for",
    gpu: int | None = 0,
) -> Session:
    """Opens any ONNX file in ONNX Runtime.

    Args:
        graph: The file, whose digest was checked.
        precision: Its precision, for the record.
        threads: CPU threads of one run; None is the library's own choice.
        reason: Why, for the record.
        gpu: Which GPU, if its build can use one; None is the CPU.

    Raises:
        MissingPackageError: ONNX Runtime isn't installed.
        BackendError: It can't load the graph.
    """
    if not is_installed("onnxruntime"):
        raise missing_package("onnxruntime", "this graph")
    from magvit_runtime.backends.onnx_runtime.session import OnnxRuntimeSession

    return OnnxRuntimeSession(graph, precision=precision, threads=threads, reason=reason, gpu=gpu)


BACKEND = OnnxRuntimeBackend()
