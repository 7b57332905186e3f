"""Items on which every graph of a role is compared, of the kind that its input is."""

from __future__ import annotations

from collections.abc import Sequence

from magvit_runtime.bundle.manifest import TensorSpec
from magvit_runtime.clips.sample_ids import IDS_NAMES, odd_grid, usual_grid, verification_ids
from magvit_runtime.clips.samples import CLIP_NAMES, odd_shape, usual_shape, verification_clips
from magvit_runtime.verification.references import Clips


def sample_shapes(given: TensorSpec, item: Sequence[int | str]) -> tuple[tuple[int, ...], ...]:
    """Usual shape of an item, and an odd one where it leaves sizes to the caller.

    Args:
        given: The input.
        item: Shape of one item of it, without the batch.
    """
    if given.kind == "ids":
        shapes = usual_grid(item), odd_grid(item)
    else:
        shapes = usual_shape(item), odd_shape(item)
    return tuple(dict.fromkeys(shapes))


def samples(given: TensorSpec, shape: tuple[int, ...]) -> Clips:
    """Items of a shape, with their names: `CLIP_NAMES`, or `IDS_NAMES` within the range of ids."""
    if given.kind != "ids":
        return CLIP_NAMES, verification_clips(shape)
    assert given.maximum is not None  # Of ids, every manifest says it.
    return IDS_NAMES, verification_ids(shape, int(given.maximum) + 1)
