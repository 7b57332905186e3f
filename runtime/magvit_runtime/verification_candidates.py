"""The graphs and engines of a bundle, and which of them can run here."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from magvit_runtime.bundle import Bundle, graph_sha256
from magvit_runtime.engines.finding import find_engines, first_mismatch, this_machine
from magvit_runtime.manifest import GraphRecord, Kind, Precision
from magvit_runtime.parity_stamps import graph_subject
from magvit_runtime.sessions import Session, open_encoder
from magvit_runtime.sessions.graph_backends import GRAPH_BACKENDS, GraphBackend, why_not
from magvit_runtime.sessions.selection import open_engine
from magvit_runtime.tensor_check import check_array
from magvit_runtime.types import Array
from magvit_runtime.verification_clips import in_batches

USUAL_BATCHES = (1, 2)


@dataclass(frozen=True)
class Candidate:
    """A graph or engine that may run here.

    Attributes:
        subject: "onnxruntime fp16", or the plan's file name.
        backend: What runs it.
        precision: Its precision.
        sha256: Digest of the graph with its weights, or of the plan.
        graph: Its inputs and outputs.
        clip_shape: Shape of one clip; a string stands for any size.
        batches: Numbers of clips that it takes at once.
        usual_batches: Those of them to run where none are asked for.
        open: Opens it.
    """

    subject: str
    backend: str
    precision: Precision
    sha256: str
    graph: GraphRecord
    clip_shape: tuple[int | str, ...]
    batches: range
    usual_batches: tuple[int, ...]
    open: Callable[[], Session]


@dataclass(frozen=True)
class Unfit:
    """An engine that can't run on this machine, and why."""

    subject: str
    backend: str
    precision: Precision
    why: str


def find_candidates(bundle: Bundle) -> Iterator[Candidate | Unfit]:
    """All graphs and engines of a bundle."""
    for precision, graph in bundle.graphs("encode").items():
        batch, *clip_shape = graph.inputs[0].shape
        for backend in GRAPH_BACKENDS:
            if why_not(backend, precision):
                continue
            yield Candidate(
                graph_subject(backend, precision),
                backend,
                precision,
                graph_sha256(bundle, graph),
                graph,
                tuple(clip_shape),
                range(batch, batch + 1) if isinstance(batch, int) else range(1, 2**31),
                (batch,) if isinstance(batch, int) else USUAL_BATCHES,
                partial(_open_graph, bundle, backend, precision),
            )
    machine = this_machine()
    for engine in find_engines(bundle, "encode"):
        key = engine.record.key
        if mismatch := first_mismatch(engine, bundle, machine):
            why = f"{mismatch.what}: built for {mismatch.engine}, here {mismatch.here}"
            yield Unfit(engine.plan.name, key.flavour, key.precision, why)
            continue
        graph = bundle.graphs(key.role)[key.precision]
        shapes = key.profiles[0][graph.inputs[0].name]
        batches = (shapes.minimum[0], shapes.optimum[0], shapes.maximum[0])
        yield Candidate(
            engine.plan.name,
            key.flavour,
            key.precision,
            engine.record.plan.sha256,
            graph,
            shapes.optimum[1:],
            range(batches[0], batches[-1] + 1),
            tuple(sorted(set(batches))),
            partial(open_engine, engine, "verified"),
        )


def run_clips(
    session: Session,
    graph: GraphRecord,
    kinds: Sequence[Kind],
    frames: NDArray[np.uint8],
    size: int,
) -> Iterator[dict[Kind, Array]]:
    """Outputs of clips by kind, all of the same run, in batches of exactly `size`.

    Raises:
        InputError: The clips don't fit the graph.
        BackendError: The backend failed.
    """
    spec = graph.inputs[0]
    wanted = [output for output in graph.outputs if output.kind in kinds]
    for batch, new in in_batches(frames, size):
        check_array("the clips", batch, spec)
        results = session.run({spec.name: batch}, [output.name for output in wanted])
        yield {output.kind: r[:new] for output, r in zip(wanted, results, strict=True)}


def _open_graph(bundle: Bundle, backend: GraphBackend, precision: Precision) -> Session:
    return open_encoder(bundle, backend=backend, precision=precision)[1]
