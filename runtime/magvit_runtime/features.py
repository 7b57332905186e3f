"""Clips in, continuous features out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import get_args

import msgspec
import numpy as np
from numpy.typing import NDArray

from magvit_runtime.backends.tensor_check import check_array
from magvit_runtime.batched_role import BatchedRole
from magvit_runtime.bundle.manifest import GraphRecord, TensorSpec
from magvit_runtime.clips.fitting import fitted
from magvit_runtime.errors import InputError
from magvit_runtime.types import Pool as Pool

_IMAGES = 4  # Axes of images, [N, H, W, 3].


class FeatureExtractor(BatchedRole):
    """The features of a bundle, ready to run. Open one with `FeatureExtractor.open`.

    Thread-safe, and pickled or forked, as `Tokenizer` is.

    Clips may have any size and number of frames: the bundle says which frames the model sees, and
    how they are resized and cropped (`GraphRecord.preprocessing`), and that is done here. A model
    of images takes the frames of clips one by one.

    Example:
        >>> with FeatureExtractor.open("videomae-base") as extractor:
        ...     features = extractor(clips)  # uint8 [N, T, H, W, 3] -> float32 [N, 1568, 768]
        ...     pooled = extractor(clips, pool="mean")  # float32 [N, 768]
    """

    ROLE = "features"
    TASK = "features"
    ITEMS = "clips"

    @property
    def clip_shape(self) -> tuple[int | str, ...]:
        """What the model sees of a clip, [T, H, W, 3] or [H, W, 3]; a string is any size."""
        return self._item_shape()

    def __call__(self, clips: NDArray[np.uint8], pool: Pool = "none") -> NDArray[np.float32]:
        """Features of clips.

        Args:
            clips: uint8 RGB in 0..255, [N, T, H, W, 3], or images [N, H, W, 3] for a model of
                images. A last axis of 1 is grey, and becomes RGB first.
            pool: "none" gives all features. "mean" gives one vector an item: the mean over a
                model's positions in time and space, and over frames where a model of images is
                given clips.

        Returns:
            float32: of VideoMAE [N, positions, width] or pooled [N, width]; of CLIP [N, width] for
            images, [N, T, width] for clips or pooled [N, width]; of the encoders of tokenizers
            [N, channels, t, h, w] (or [N, channels, h, w]) or pooled [N, channels]. None of them
            is normalised to length 1.

        Raises:
            InputError: The array's type or shape isn't what the model takes, or `pool` is unknown.
            MissingPackageError: Clips must be resized, and Pillow isn't installed.
            BackendError: The backend failed.
            BundleError: The graph gives something else than its manifest says.
        """
        if pool not in get_args(Pool):
            raise InputError(
                "no pooling has this name", found=repr(pool), expected=", ".join(get_args(Pool))
            )
        frames = _in_color(clips, self._graph)
        is_frame_by_frame = frames.ndim > len(self._graph.inputs[0].shape)
        items = frames.reshape(-1, *frames.shape[2:]) if is_frame_by_frame else frames
        batches = (items[i : i + self._batch_size] for i in range(0, len(items), self._batch_size))
        if (rules := self._graph.preprocessing) is not None:
            batches = (fitted(batch, rules) for batch in batches)
        parts = list(self._stream(batches, output_of_pool(self._graph, pool)))
        features = parts[0] if len(parts) == 1 else np.concatenate(parts)
        if not is_frame_by_frame:
            return features
        by_clip = features.reshape(*frames.shape[:2], *features.shape[1:])
        return by_clip.mean(axis=1) if pool == "mean" else by_clip

    def stream(
        self, batches: Iterable[NDArray[np.uint8]], pool: Pool = "none"
    ) -> Iterator[NDArray[np.float32]]:
        """Features of one batch of clips after another; holds one batch at a time."""
        for clips in batches:
            yield self(clips, pool)


def output_of_pool(graph: GraphRecord, pool: Pool) -> TensorSpec:
    """The output that is asked for; features that are vectors already need no pooling."""
    has_pooled = any(spec.kind == "pooled" for spec in graph.outputs)
    return graph.output_of("pooled" if pool == "mean" and has_pooled else "features")


def accepted_shape(graph: GraphRecord) -> tuple[int | str, ...]:
    """Shape of the clips that an extractor takes, before they are fitted: [N, (T,) H, W, 3].

    Args:
        graph: The graph of its features. A string stands for any size.
    """
    shape, rules = list(graph.inputs[0].shape), graph.preprocessing
    # Sizes that the rules lead to may be anything before.
    if rules is not None and (rules.resizing or rules.crop):
        shape[-3:-1] = ["height", "width"]
    if rules is not None and rules.frames:
        shape[1] = "frames"
    return tuple(shape)


def _in_color(clips: NDArray[np.uint8], graph: GraphRecord) -> NDArray[np.uint8]:
    """Clips of any size that can be fitted, checked; grey ones in RGB.

    Raises:
        InputError: They are no bytes, or of other axes or sizes.
    """
    *shape, _ = accepted_shape(graph)
    is_array = isinstance(clips, np.ndarray)
    if is_array and len(shape) == _IMAGES - 1 and clips.ndim == _IMAGES + 1:
        shape.insert(1, "frames")
    if is_array and clips.ndim == len(shape) + 1 and clips.shape[-1] == 1:
        clips = np.repeat(clips, 3, axis=-1)
    check_array("clips", clips, msgspec.structs.replace(graph.inputs[0], shape=(*shape, 3)))
    return clips
