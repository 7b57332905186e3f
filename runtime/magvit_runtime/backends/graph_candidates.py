"""Candidates of backends that run a bundle's ONNX graphs themselves."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from magvit_runtime.backends.backend import Candidate, Opening, Session, Unfit
from magvit_runtime.bundle.manifest import GraphRecord, Precision, Role
from magvit_runtime.bundle.reading import Bundle, graph_sha256
from magvit_runtime.bundle.stamps import graph_subject

USUAL_BATCHES = (1, 2)

# Opens the graph at a path, whose digest was just checked.
OpenGraph = Callable[[Path, Precision, Opening], Session]


def graph_candidates(
    bundle: Bundle,
    role: Role,
    backend: str,
    *,
    device: str,
    rank: int,
    reason: str,
    why_not: Callable[[Precision], str],
    fix: str = "",
    open_graph: OpenGraph,
) -> Iterator[Candidate | Unfit]:
    """One candidate for each precision of a role.

    Args:
        bundle: The bundle.
        role: What is to be run.
        backend: Name of the backend.
        device: "cpu" or "cuda".
        rank: As in a `Candidate`.
        reason: Why this backend would be chosen.
        why_not: Why it doesn't run a precision here; "" if it does.
        fix: The command that fixes this, if one does.
        open_graph: Opens a graph.
    """
    for precision, graph in bundle.graphs(role).items():
        subject = graph_subject(backend, precision)
        if why := why_not(precision):
            yield Unfit(subject, role, backend, precision, why, fix)
            continue
        batch, *shape = graph.inputs[0].shape

        def open_verified(
            opening: Opening, precision: Precision = precision, graph: GraphRecord = graph
        ) -> Session:
            return open_graph(bundle.verified_graph(graph), precision, opening)

        yield Candidate(
            subject=subject,
            role=role,
            backend=backend,
            precision=precision,
            device=device,
            sha256=graph_sha256(bundle, graph),
            graph=graph,
            rank=rank,
            reason=reason,
            clip_shape=tuple(shape),
            batches=range(batch, batch + 1) if isinstance(batch, int) else range(1, 2**31),
            usual_batches=(batch,) if isinstance(batch, int) else USUAL_BATCHES,
            is_engine=False,
            check=partial(bundle.verified_graph, graph),
            open=open_verified,
        )
