"""What a bundle gives for drawn trajectories, kept for the next time: minutes for a few MB."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from magvit_export.evaluation.labelled import Labelled
from magvit_export.training.drawn_clips import variations
from magvit_export.training.sources import Features, Tokens
from magvit_export.verification.reference_cache import ReferenceCache, cache_folder
from magvit_runtime import FeatureExtractor, Tokenizer
from magvit_runtime.bundle.manifest import Role
from magvit_runtime.bundle.reading import Bundle, graph_sha256
from magvit_runtime.clips.trajectories import Trajectory, render
from magvit_runtime.quantizers import vocabulary_size
from magvit_runtime.types import Array

# Trajectories whose outputs are kept in one file: what an interruption can cost.
AT_ONCE = 32

Advance = Callable[[int], None]


def clip_tokens(
    bundle: Path, data: Labelled, copies: int, seed: int, advance: Advance = lambda _: None
) -> Tokens:
    """Token ids of all clips: int32 [N·(1 + copies)·V, t, h, w].

    The views of each trajectory come after each other, and all varied copies after all originals.

    Args:
        bundle: Directory of a model with an encoder.
        data: N trajectories, seen by V cameras.
        copies: Varied copies of each.
        seed: Chooses the variations.
        advance: Called with the number of trajectories done.

    Raises:
        InputError: Clips don't fit the model.
        BundleError, BackendError: The bundle can't be run.
    """
    with Tokenizer.open(bundle) as tokenizer:
        identity = _identity(tokenizer.bundle, "ids", tokenizer.capabilities.backend)
        every = (*data.trajectories, *variations(data.trajectories, copies, seed))
        ids = _outputs(tokenizer, identity, every, data, advance)
        return Tokens(ids, vocabulary_size(tokenizer.bundle.tokens.quantizer))


def clip_features(bundle: Path, data: Labelled, advance: Advance = lambda _: None) -> Features:
    """Features of all clips, pooled to one vector each: float32 [N·V, D].

    Args:
        bundle: Directory of a model with features.
        data: N trajectories, seen by V cameras.
        advance: Called with the number of trajectories done.

    Raises:
        InputError: Clips don't fit the model.
        BundleError, BackendError: The bundle can't be run.
    """
    with FeatureExtractor.open(bundle) as extractor:
        identity = _identity(extractor.bundle, "pooled", extractor.capabilities.backend)
        return Features(
            _outputs(
                lambda clips: extractor(clips, "mean"), identity, data.trajectories, data, advance
            )
        )


def _identity(bundle: Bundle, kind: str, backend: str) -> dict[str, Any]:
    """All that the outputs depend on besides the clips."""
    role: Role = "encode" if kind == "ids" else "features"
    precision, graph = bundle.graph(role)
    return {
        "graph": graph_sha256(bundle, graph),
        "rules": msgspec.to_builtins(graph.preprocessing),
        "kind": kind,
        "precision": precision,
        "backend": backend,
    }


def _outputs(
    run: Callable[[NDArray[np.uint8]], Array],
    identity: dict[str, Any],
    trajectories: Sequence[Trajectory],
    data: Labelled,
    advance: Advance,
) -> Array:
    cache = ReferenceCache(cache_folder(), identity)
    parts = []
    for first in range(0, len(trajectories), AT_ONCE):
        some = trajectories[first : first + AT_ONCE]
        clips = render(some, data.style, data.cameras)
        known = cache.get(clips)
        if known is None:
            known = {identity["kind"]: run(clips)}
            cache.put(clips, known)
        parts.append(known[identity["kind"]])
        advance(len(some))
    return np.concatenate(parts)
