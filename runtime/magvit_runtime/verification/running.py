"""Runs clips through a session in batches of one size."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from magvit_runtime.backends.backend import Session
from magvit_runtime.backends.tensor_check import check_array
from magvit_runtime.bundle.manifest import GraphRecord
from magvit_runtime.clips.samples import in_batches


def run_clips(
    session: Session, graph: GraphRecord, frames: NDArray[np.uint8], size: int
) -> Iterator[tuple[NDArray[np.int32], NDArray[np.floating]]]:
    """Ids and latents of clips, in batches of exactly `size`; ids are those of the same run.

    Raises:
        InputError: The clips don't fit the graph.
        BackendError: The backend failed.
    """
    spec = graph.inputs[0]
    for batch, new in in_batches(frames, size):
        check_array("the clips", batch, spec)
        ids, latents = session.run({spec.name: batch}, ["ids", "latents"])
        yield ids[:new], latents[:new]
