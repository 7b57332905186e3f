"""Which of a bundle's roles are served, under which names, with which inputs and outputs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from magvit_runtime.batched_role import BatchedRole
from magvit_runtime.bundle.manifest import GraphRecord, Role, TensorSpec
from magvit_runtime.bundle.reading import Bundle, open_bundle
from magvit_runtime.classifier import Classifier, ClipClassifier, FeatureClassifier
from magvit_runtime.detokenizer import Detokenizer
from magvit_runtime.errors import InputError
from magvit_runtime.features import FeatureExtractor, accepted_shape, output_of_pool
from magvit_runtime.tokenizer import Tokenizer
from magvit_runtime.types import Array, Classification, Pool, Shape

# Names of the models, and the order in which they are written.
MODEL_NAMES: dict[Role, str] = {
    "encode": "tokenizer",
    "classify": "classifier",
    "classify-clips": "clip_classifier",
    "decode": "detokenizer",
    "features": "features",
}


@dataclass(frozen=True)
class Wire:
    """One input or output as clients see it.

    Attributes:
        name: Its name.
        dtype: NumPy name of its element type, or "string".
        shape: Its sizes without the batch; a string stands for any size.
    """

    name: str
    dtype: str
    shape: tuple[int | str, ...]


@dataclass(frozen=True)
class ServedRole:
    """A role, open.

    Attributes:
        door: The model class, open; it is closed by whoever opened it.
        dtype: NumPy name of its items' element type.
        run: What it gives for a batch of items, by the names of `outputs_of`.
    """

    door: BatchedRole
    dtype: str
    run: Callable[[Array], Mapping[str, Array]]

    def warm_up(self, item: Shape, batches: Sequence[int]) -> None:
        """Does what first requests would wait for.

        Args:
            item: Shape of the items to come.
            batches: Batch sizes.

        Raises:
            InputError: The model doesn't take such items.
            BackendError: The backend failed.
        """
        if isinstance(self.door, (Tokenizer, Detokenizer)):
            self.door.warm_up(item, batches)
            return
        for batch in batches:
            self.run(np.zeros((batch, *item), self.dtype))


def door_class(role: Role, graph: GraphRecord) -> type[BatchedRole]:
    """The class that runs a role.

    Raises:
        InputError: None does: a graph of several inputs, or of a role that isn't served.
    """
    kinds = [spec.kind for spec in graph.inputs]
    classes: dict[tuple[Role, str], type[BatchedRole]] = {
        ("encode", "pixels"): Tokenizer,
        ("decode", "ids"): Detokenizer,
        ("features", "pixels"): FeatureExtractor,
        ("classify", "ids"): Classifier,
        ("classify", "features"): FeatureClassifier,
        ("classify-clips", "pixels"): ClipClassifier,
    }
    found = classes.get((role, " and ".join(kinds)))
    if found is None:
        raise InputError(
            f"no class serves {role} graphs of {' and '.join(kinds)}",
            expected="tokenizer, classifier, detokenizer or features, of one input",
        )
    return found


def input_of(role: Role, graph: GraphRecord) -> Wire:
    """What clients send for a role."""
    given = graph.inputs[0]
    shape = accepted_shape(graph) if role == "features" else given.shape
    return Wire(door_class(role, graph).ITEMS, given.dtype, tuple(shape[1:]))


def outputs_of(role: Role, graph: GraphRecord, pool: Pool) -> tuple[Wire, ...]:
    """What clients get of a role."""
    if role in ("classify", "classify-clips"):
        made = graph.output_of("probabilities")
        return Wire("labels", "string", (1,)), _wire("probabilities", made)
    if role == "features":
        return (_wire("features", output_of_pool(graph, pool)),)
    if role == "decode":
        return (_wire("clips", graph.output_of("pixels")),)
    return (_wire("ids", graph.output_of("ids")),)


def open_served(bundle: str | Path, role: Role, pool: Pool, **options: Any) -> ServedRole:
    """Opens a role of a bundle as it is served.

    Args:
        bundle: The bundle's directory.
        role: The role.
        pool: How features are pooled.
        options: As of `BatchedRole.open`.

    Raises:
        BundleError, BackendError, InputError: As of `BatchedRole.open`.
    """
    opened = open_bundle(bundle)
    _, graph = opened.graph(role, options.get("precision"))
    door = door_class(role, graph).open(bundle, **options)
    return ServedRole(door, graph.inputs[0].dtype, _run(door, pool))


def usual_item(bundle: Bundle, graph: GraphRecord, clip: Shape) -> Shape:
    """Shape of the items that are made of clips of a size.

    Args:
        bundle: The bundle.
        graph: What takes them: clips, ids or features.
        clip: Frames, height and width, where a graph takes any.
    """
    given = graph.inputs[0]
    sizes = dict(zip(("frames", "height", "width"), clip, strict=True))
    if given.kind == "ids":
        tokens = bundle.tokens
        strides = (tokens.temporal_stride, tokens.spatial_stride, tokens.spatial_stride)
        parts = (-(-size // stride) for size, stride in zip(clip, strides, strict=True))
        sizes = dict(zip(("t", "h", "w"), parts, strict=True))
    return tuple(sizes[size] if isinstance(size, str) else size for size in given.shape[1:])


def _wire(name: str, spec: TensorSpec) -> Wire:
    return Wire(name, spec.dtype, spec.shape[1:])


def _run(door: BatchedRole, pool: Pool) -> Callable[[Array], Mapping[str, Array]]:
    if isinstance(door, FeatureExtractor):
        return lambda clips: {"features": door(clips, pool)}
    if isinstance(door, Tokenizer):
        return lambda clips: {"ids": door(clips)}
    if isinstance(door, Detokenizer):
        return lambda ids: {"clips": door(ids)}
    assert isinstance(door, (Classifier, FeatureClassifier, ClipClassifier))
    return lambda items: _classes(door(items))


def _classes(found: Classification) -> dict[str, Array]:
    # Triton's strings are arrays of bytes.
    labels = np.array([[label.encode()] for label in found.labels], np.object_)
    return {"labels": labels, "probabilities": found.probabilities}
