"""Which items a comparison runs: of which sizes, and how many at once."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from magvit_runtime.backends.backend import Candidate
from magvit_runtime.bundle.manifest import TensorSpec
from magvit_runtime.verification.references import Clips, Reference
from magvit_runtime.verification.samples import sample_shapes, samples
from magvit_runtime.verification.times import item_flop

# Further items of a shape, in parts; where few are wanted, one of each part is enough.
ClipSource = Callable[[tuple[int, ...], bool], Iterator[Clips]]

# Operations of one item from which on a few items of the usual size are enough: half a minute of
# ONNX Runtime on two cores. The model of 17x128x128 has 4.5e12, the images of 256x256 0.3e12.
LARGE_FLOP = 1e12


@dataclass(frozen=True)
class ItemSet:
    """Items of one shape.

    Attributes:
        shape: Of one item, without the batch.
        with_extra: Whether extra items belong to it; they are run at one shape of a candidate.
        few: The places of the samples that are enough; None for all of them.
        sizes: Items at once; each size runs all of them.
    """

    shape: tuple[int, ...]
    with_extra: bool
    few: tuple[int, ...] | None
    sizes: tuple[int, ...]


@dataclass(frozen=True)
class Items:
    """All that candidates of one role may run.

    Attributes:
        given: The input.
        reference: A reference that knows some items only is compared on those alone.
        extra: More items of a shape, besides the `samples`.
        batch_sizes: Items at once, where the caller chose them.
        thorough: Whether all items are run at the usual size, however large it is.
    """

    given: TensorSpec
    reference: Reference
    extra: ClipSource | None
    batch_sizes: Sequence[int] | None
    thorough: bool

    def sets(self, candidate: Candidate) -> list[ItemSet]:
        """What a candidate runs, the usual size first; nothing if the reference has none for it."""
        sizes = self._batch_sizes(candidate)
        if self.reference.clips is not None:
            shapes = dict.fromkeys(frames.shape[1:] for _, frames in self.reference.clips)
            fitting = [shape for shape in shapes if candidate.takes(shape)]
            return [ItemSet(shape, False, None, sizes) for shape in fitting]
        usual, *odd = sample_shapes(self.given, candidate.clip_shape)
        few = None
        usual_sizes = sizes
        if not self.thorough and (item_flop(candidate.graph, usual) or 0) > LARGE_FLOP:
            # Without an odd size this is the only one to see an item that is mostly flat.
            few = (0,) if odd else (0, 2)
            usual_sizes = sizes if self.batch_sizes else sizes[:1]
        return [
            ItemSet(usual, True, few, usual_sizes),
            *(ItemSet(shape, False, None, sizes) for shape in odd),
        ]

    def parts(self, chosen: ItemSet) -> Iterator[Clips]:
        """The items of a set in parts, each with a name, the same on every call."""
        if self.reference.clips is not None:
            for part in self.reference.clips:
                if part[1].shape[1:] == chosen.shape:
                    yield part
            return
        names, arrays = samples(self.given, chosen.shape)
        if chosen.few is not None:
            places = list(chosen.few)
            names, arrays = tuple(names[place] for place in places), arrays[places]
        yield names, arrays
        if chosen.with_extra and self.extra is not None:
            yield from self.extra(chosen.shape, chosen.few is not None)

    def _batch_sizes(self, candidate: Candidate) -> tuple[int, ...]:
        if self.batch_sizes is None:
            return candidate.usual_batches
        sizes = tuple(size for size in self.batch_sizes if size in candidate.batches)
        return sizes or (candidate.batches[0],)
