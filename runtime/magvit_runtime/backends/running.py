"""Runs clips through a session in batches of one size."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from magvit_runtime.backends.backend import Session
from magvit_runtime.backends.tensor_check import check_array
from magvit_runtime.bundle.manifest import GraphRecord, Kind
from magvit_runtime.clips.batches import in_batches
from magvit_runtime.types import Array


def run_clips(
    session: Session,
    graph: GraphRecord,
    kinds: Sequence[Kind],
    clips: Array,
    size: int,
) -> Iterator[dict[Kind, Array]]:
    """Outputs of clips by kind, all of the same run, in batches of exactly `size`.

    Raises:
        InputError: The clips don't fit the graph.
        BackendError: The backend failed.
    """
    spec = graph.inputs[0]
    wanted = [output for output in graph.outputs if output.kind in kinds]
    for batch, new in in_batches(clips, size):
        check_array("the clips", batch, spec)
        results = session.run({spec.name: batch}, [output.name for output in wanted])
        yield {output.kind: r[:new] for output, r in zip(wanted, results, strict=True)}
