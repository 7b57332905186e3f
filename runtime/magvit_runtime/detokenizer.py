"""Token ids in, frames out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from magvit_runtime.batched_role import BatchedRole
from magvit_runtime.cuda.arrays import DeviceArray


class Detokenizer(BatchedRole):
    """The decoder of a bundle, ready to run. Open one with `Detokenizer.open`.

    Thread-safe, and pickled or forked, as `Tokenizer` is.

    Example:
        >>> with Detokenizer.open("open-magvit2-video-128") as detokenizer:
        ...     clips = detokenizer(ids)  # int32 [N, 5, 16, 16] -> uint8 [N, 17, 128, 128, 3]
    """

    ROLE = "decode"
    TASK = "detokenize"
    ITEMS = "ids"

    @property
    def grid(self) -> tuple[int | str, ...]:
        """Tokens of one clip, [t, h, w] or [h, w]; a string stands for any number."""
        return self._item_shape()

    def __call__(self, ids: NDArray[np.int32]) -> NDArray[np.uint8]:
        """Frames of token ids.

        A video's first token stands for one frame, and each later one for as many as the temporal
        stride, so clips whose length isn't 1 + a multiple of that come back shorter than they were.

        Args:
            ids: int32 [N, t, h, w], or [N, h, w] for an image model, as `Tokenizer` gives them.

        Returns:
            uint8 RGB in 0..255, [N, T, H, W, 3] with T = temporal stride · (t - 1) + 1 and H, W =
            spatial stride · h, w; or [N, H, W, 3]. Values are rounded to the nearest byte.

        Raises:
            InputError: The array's type or shape isn't what the model takes, or an id is none of
                its vocabulary.
            BackendError: The backend failed.
            BundleError: The graph gives something else than its manifest says.
        """
        return self._run(ids, self._graph.output_of("pixels"))

    def decode_device(self, ids: object) -> DeviceArray:
        """Frames of token ids that lie on the GPU; nothing is copied from or to the host.

        Args:
            ids: int32, of the shape that `__call__` takes; otherwise as the clips of
                `Tokenizer.encode_device`. Their range isn't checked: they must be of this model's
                vocabulary.

        Returns:
            uint8 frames as of `__call__`, complete, on the same GPU.

        Raises:
            InputError: The ids aren't such an array, or more than `batch_size` clips.
            BackendError: The backend has no device arrays, or failed.
            BundleError: The graph gives something else than its manifest says.
        """
        return self._run_device(ids, self._graph.output_of("pixels"))

    def warm_up(self, grid: Sequence[int], batches: Iterable[int] | None = None) -> None:
        """Does what first calls would wait for; see `Tokenizer.warm_up`.

        Args:
            grid: Tokens of the clips to come, [t, h, w] or [h, w].
            batches: Batch sizes that are to run as fast as they can, up to `batch_size`.

        Raises:
            InputError: The model doesn't take such ids, or a batch isn't in 1 .. `batch_size`.
            BackendError: The backend failed.
        """
        self._warm_up(grid, batches, self._graph.output_of("pixels"))

    def stream(self, batches: Iterable[NDArray[np.int32]]) -> Iterator[NDArray[np.uint8]]:
        """Frames of one batch of ids after another; see `Tokenizer.stream`."""
        yield from self._stream(batches, self._graph.output_of("pixels"))
