"""The ways from clips to classes: one graph, or tokens or features and then the classifier."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from magvit_runtime.backends.backend import Candidate
from magvit_runtime.backends.candidates import fastest_first, list_candidates
from magvit_runtime.bundle.manifest import Role
from magvit_runtime.bundle.reading import Bundle
from magvit_runtime.classifier import Classifier, ClipClassifier, FeatureClassifier
from magvit_runtime.errors import InputError
from magvit_runtime.features import FeatureExtractor
from magvit_runtime.tokenizer import Tokenizer
from magvit_runtime.types import Classification

WayOption = Literal["auto", "fused", "tokens"]


@dataclass(frozen=True)
class Way:
    """What goes from clips to classes.

    Attributes:
        classify: Clips to classes.
        model: What takes the clips.
        grid: Tokens of a clip; empty where none are seen.
        classes: Name of each class.
        why_tokens: Why it goes by tokens or features; "" where one graph does it all.
        by: What is between clips and classes then.
    """

    classify: Callable[[NDArray[np.uint8]], Classification]
    model: Tokenizer | ClipClassifier | FeatureExtractor
    grid: tuple[int | str, ...]
    classes: tuple[str, ...]
    why_tokens: str
    by: Literal["tokens", "features"] = "tokens"

    @property
    def name(self) -> Literal["fused", "tokens", "features"]:
        """What it is called."""
        return self.by if self.why_tokens else "fused"

    @property
    def description(self) -> str:
        """The way, as text for people."""
        backend = self.model.capabilities.backend
        by_steps = f"by {self.by} ({self.why_tokens})"
        return f"{by_steps if self.why_tokens else 'clips to classes in one graph'}, on {backend}"


@contextmanager
def open_way(
    bundle: Bundle,
    way: WayOption,
    shape: tuple[int, ...],
    *,
    backend: str,
    threads: int | None,
    batch_size: int,
) -> Iterator[Way]:
    """Opens a way, for as long as the block runs.

    Args:
        bundle: The bundle, with a classifier.
        way: "fused" is one graph. "auto" takes it unless `why_tokens` says why not.
        shape: Shape of a clip.
        backend: What runs the encoder, or the one graph.
        threads: CPU threads of one run.
        batch_size: Clips that run at once.

    Raises:
        BundleError: The bundle has no classifier, or no graph that is one.
        BackendError: No backend here can run it.
        InputError: An option is out of range.
    """
    head = bundle.manifest.graphs.get("classify", {}).values()
    if any([spec.kind for spec in graph.inputs] == ["features"] for graph in head):
        if way != "auto":
            raise InputError(
                "this classifier takes features",
                found=f"--way {way}",
                mend="leave --way out",
            )
        with _by_features(bundle, backend, threads, batch_size) as found:
            yield found
        return
    why = "as asked" if way == "tokens" else ""
    if way == "auto":
        why = why_tokens(bundle, backend, shape)
    if not why:
        with ClipClassifier.open(
            bundle.path, backend=backend, threads=threads, batch_size=batch_size
        ) as fused:
            yield Way(fused, fused, (), fused.classes, why)
        return
    with (
        Classifier.open(bundle.path, threads=threads, batch_size=batch_size) as classifier,
        Tokenizer.open(
            bundle.path, backend=backend, threads=threads, batch_size=batch_size
        ) as tokenizer,
    ):
        yield Way(
            lambda clips: classifier(tokenizer(clips)),
            tokenizer,
            classifier.grid,
            classifier.classes,
            why,
        )


@contextmanager
def _by_features(
    bundle: Bundle, backend: str, threads: int | None, batch_size: int
) -> Iterator[Way]:
    with (
        FeatureClassifier.open(bundle.path, threads=threads, batch_size=batch_size) as classifier,
        FeatureExtractor.open(
            bundle.path, backend=backend, threads=threads, batch_size=batch_size
        ) as extractor,
    ):
        yield Way(
            lambda clips: classifier(extractor(clips, classifier.pool)),
            extractor,
            (),
            classifier.classes,
            "its classifier takes these",
            "features",
        )


def why_tokens(bundle: Bundle, backend: str, shape: tuple[int, ...]) -> str:
    """Why clips are classified by their tokens; "" where one graph is as good.

    Args:
        bundle: The bundle.
        backend: What is asked for.
        shape: Shape of a clip.
    """
    if not bundle.graphs("classify-clips"):
        return "the bundle has no graph from clips to classes"
    encoder, fused = (_best(bundle, role, backend) for role in ("encode", "classify-clips"))
    if fused is None:
        return f"{backend} doesn't run the graph from clips to classes here"
    if not fused.takes(shape):
        return f"the graph from clips to classes takes clips of {list(fused.clip_shape)}"
    if encoder is not None and encoder.backend != fused.backend:
        return f"{encoder.subject} encodes here, and {fused.subject} would run the one graph"
    return ""


def _best(bundle: Bundle, role: Role, backend: str) -> Candidate | None:
    """What runs a role, if it can be opened."""
    precision, _ = bundle.graph(role)
    found = list_candidates(bundle, role).for_precision(precision, any_engine=True)
    found = found if backend == "auto" else found.of(backend)
    return next(iter(fastest_first(bundle, found.fit)), None)


def clip_shape(source: Path, frames: int, height: int, width: int) -> tuple[int, ...]:
    """Shape of a source's clips: those of an array, or as trajectories are drawn and videos cut."""
    if source.suffix.lower() != ".npy":
        return frames, height, width, 3
    try:
        return np.lib.format.open_memmap(source, mode="r").shape[1:]
    except (OSError, ValueError):
        return ()  # Reading it says what is wrong.
