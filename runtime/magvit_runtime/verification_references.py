"""What encoders are compared with, and the nearest of it: a graph."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from magvit_runtime.bundle import Bundle
from magvit_runtime.sessions import open_encoder
from magvit_runtime.verification_candidates import run_clips

Clips = tuple[tuple[str, ...], NDArray[np.uint8]]


@dataclass(frozen=True)
class Reference:
    """What encoders are compared with.

    Attributes:
        name: What it is, for people and for the stamp.
        latents: uint8 clips [N, T, H, W, 3] (or [N, H, W, 3]) -> float latents [N, bits, t, h, w].
        versions: Versions of the software behind it.
        subject: Name of the bundle's own graph that it is; None where it is none of them.
        clips: The only clips that it knows, in parts of one shape each, with the clips' names;
            None where it takes any.
    """

    name: str
    latents: Callable[[NDArray[np.uint8]], NDArray[np.floating]]
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
    graph, session = open_encoder(bundle, backend="onnxruntime", precision=bundle.graph("encode")[0])
    batch = graph.inputs[0].shape[0]

    def latents(frames: NDArray[np.uint8]) -> NDArray[np.floating]:
        size = batch if isinstance(batch, int) else 1
        parts = [part[1] for part in run_clips(session, graph, frames, size)]
        return np.concatenate(parts)

    ours = session.capabilities
    return Reference(name, latents, {ours.backend: ours.version}, subject)
