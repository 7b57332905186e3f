"""What graphs and engines are compared with, and the nearest of it: a graph."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from magvit_runtime.agreement import Outputs, new_comparison
from magvit_runtime.backends.opening import open_role
from magvit_runtime.backends.running import run_clips
from magvit_runtime.bundle.manifest import Role
from magvit_runtime.bundle.reading import Bundle
from magvit_runtime.types import Array
from magvit_runtime.verification.times import backend_seconds, item_flop

# Names of clips, and what the graph takes of each: uint8 frames, or int32 ids.
Clips = tuple[tuple[str, ...], Array]


@dataclass(frozen=True)
class Reference:
    """What the graphs and engines of a role are compared with.

    Attributes:
        name: What it is, for people and for the stamp.
        run: What the role takes, uint8 clips [N, T, H, W, 3] or ids [N, t, h, w] (images have no
            axis of time) -> what it gives, by kind.
        versions: Versions of the software behind it.
        subject: Name of the bundle's own graph that it is; None where it is none of them.
        clips: The only clips that it knows, in parts of one shape each, with the clips' names;
            None if it takes any.
        seconds: How long it may take for some items; 0 for what it knows already.
        note: What there is to say of its outputs once they were used; "" if nothing.
    """

    name: str
    run: Callable[[Array], Outputs]
    versions: Mapping[str, str]
    subject: str | None = None
    clips: tuple[Clips, ...] | None = None
    seconds: Callable[[Array], float] = lambda _: 0.0
    note: Callable[[], str] = lambda: ""


def graph_reference(
    bundle: Bundle, name: str, *, role: Role = "encode", subject: str | None = None
) -> Reference:
    """A bundle's most precise graph in ONNX Runtime.

    Args:
        bundle: The bundle.
        name: Name of the reference.
        role: What the graph does.
        subject: Name of the graph, where the bundle is the one that is verified.

    Raises:
        BackendError: ONNX Runtime isn't installed, or can't load the graph.
        BundleError: A file was changed.
    """
    precision, _ = bundle.graph(role)
    graph, session = open_role(bundle, role, backend="onnxruntime", precision=precision)
    kinds = new_comparison(graph).reference_kinds
    batch = graph.inputs[0].shape[0]

    def run(items: Array) -> Outputs:
        size = batch if isinstance(batch, int) else 1
        parts = list(run_clips(session, graph, kinds, items, size))
        return {kind: np.concatenate([part[kind] for part in parts]) for kind in kinds}

    def seconds(items: Array) -> float:
        return len(items) * backend_seconds("onnxruntime", item_flop(graph, items.shape[1:]))

    ours = session.capabilities
    return Reference(name, run, {ours.backend: ours.version}, subject, seconds=seconds)
