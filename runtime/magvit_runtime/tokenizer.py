"""Clips in, token ids out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from magvit_runtime.batched_role import BatchedRole
from magvit_runtime.cuda.arrays import DeviceArray


class Tokenizer(BatchedRole):
    """The encoder of a bundle, ready to run. Open one with `Tokenizer.open`.

    Thread-safe: any number of threads may call it. On a GPU as many batches run at once as there
    are workers (`capabilities.workers`); others wait. It can be pickled, and used in a forked
    process unless it runs on a GPU; docs/embedding.md has the rules.

    Example:
        >>> with Tokenizer.open("open-magvit2-video-128") as tokenizer:
        ...     ids = tokenizer(clips)  # uint8 [N, 17, 128, 128, 3] -> int32 [N, 5, 16, 16]
    """

    ROLE = "encode"
    TASK = "tokenize"
    ITEMS = "clips"

    @property
    def clip_shape(self) -> tuple[int | str, ...]:
        """Shape of one clip, [T, H, W, 3] or [H, W, 3]; a string stands for any size."""
        return self._item_shape()

    def __call__(self, clips: NDArray[np.uint8]) -> NDArray[np.int32]:
        """Token ids of clips.

        Args:
            clips: uint8 RGB in 0..255, [N, T, H, W, 3], or [N, H, W, 3] for an image model.

        Returns:
            int32 [N, t, h, w] (or [N, h, w]) in 0 .. 2^bits - 1, with
            t = ceil(T / temporal stride), h and w likewise.

        Raises:
            InputError: The array's type or shape isn't what the model takes.
            BackendError: The backend failed.
            BundleError: The graph gives something else than its manifest says.
        """
        return self._run(clips, self._graph.output_of("ids"))

    def latents(self, clips: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Latents of clips before quantization: float32 [N, bits, t, h, w]; for parity."""
        return self._run(clips, self._graph.output_of("latents"))

    def encode_device(self, clips: object) -> DeviceArray:
        """Token ids of clips that lie on the GPU; nothing is copied from or to the host.

        For backends whose `capabilities.device_arrays` is true: native-cuda, tensorrt and
        tensorrt-rtx. An engine reads the clips where they lie, and so wants them at a multiple of
        256 bytes, as allocators of tensors give it.

        Args:
            clips: uint8 RGB in 0..255, of the shape that `__call__` takes, contiguous, on the
                session's GPU: a tensor of torch, CuPy or JAX, or anything else that has a `shape`
                and exports DLPack or `__cuda_array_interface__`. At most `batch_size` clips: they
                run at once. Work under way that fills them is waited for on the GPU.

        Returns:
            int32 ids as of `__call__`, complete, on the same GPU; `torch.from_dlpack(ids)` and its
            like take them over without a copy, and they may outlive the tokenizer.

        Raises:
            InputError: The clips aren't such an array, or more than `batch_size`.
            BackendError: The backend has no device arrays, or failed.
            BundleError: The graph gives something else than its manifest says.
        """
        return self._run_device(clips, self._graph.output_of("ids"))

    def warm_up(self, clip: Sequence[int], batches: Iterable[int] | None = None) -> None:
        """Does what first calls would wait for; on a GPU plans of convs, memory and CUDA graphs.

        Args:
            clip: Shape of the clips to come, [T, H, W, 3] or [H, W, 3].
            batches: Batch sizes that are to run as fast as they can, up to `batch_size`; None is
                `batch_size` alone. native-cuda fills any other batch up to the next of these.

        Raises:
            InputError: The model doesn't take such clips, or a batch isn't in 1 .. `batch_size`.
            BackendError: The backend failed.
        """
        self._warm_up(clip, batches, self._graph.output_of("ids"))

    def stream(self, batches: Iterable[NDArray[np.uint8]]) -> Iterator[NDArray[np.int32]]:
        """Token ids of one batch of clips after another, in order.

        It holds one batch at a time; with `devices`, which share the batches, a few for each.
        """
        yield from self._stream(batches, self._graph.output_of("ids"))
