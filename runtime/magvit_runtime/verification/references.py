"""What encoders are compared with, and the nearest of it: a graph."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from magvit_runtime.agreement import Outputs, new_comparison
from magvit_runtime.backends.opening import open_role
from magvit_runtime.bundle.reading import Bundle
from magvit_runtime.verification.running import run_clips

Clips = tuple[tuple[str, ...], NDArray[np.uint8]]


@dataclass(frozen=True)
class Reference:
    """What encoders are compared with.

    Attributes:
        name: What it is, for people and for the stamp.
        run: uint8 clips [N, T, H, W, 3] (or [N, H, W, 3]) -> the encoder's outputs by kind.
        versions: Versions of the software behind it.
        subject: Name of the bundle's own graph that it is; None where it is none of them.
        clips: The only clips that it knows, in parts of one shape each, with the clips' names;
            None where it takes any.
    """

    name: str
    run: Callable[[NDArray[np.uint8]], Outputs]
    versions: Mapping[str, str]
    subject: str | None = None
    clips: tuple[Clips, ...] | None = None


def graph_reference(bundle: Bundle, name: str, *, subject: str | None = None) -> Reference:
    """A bundle's most precise graph in ONNX Runtime.

    Args:
        bundle: The bundle.
        name: Name of the reference.
        subject: Name of the graph, where the bundle is the one that is verified.

    Raises:
        BackendError: ONNX Runtime isn't installed, or can't load the graph.
        BundleError: A file was changed.
    """
    precision, _ = bundle.graph("encode")
    graph, session = open_role(bundle, "encode", backend="onnxruntime", precision=precision)
    kinds = new_comparison(graph).reference_kinds
    batch = graph.inputs[0].shape[0]

    def run(frames: NDArray[np.uint8]) -> Outputs:
        size = batch if isinstance(batch, int) else 1
        parts = list(run_clips(session, graph, kinds, frames, size))
        return {kind: np.concatenate([part[kind] for part in parts]) for kind in kinds}

    ours = session.capabilities
    return Reference(name, run, {ours.backend: ours.version}, subject)
