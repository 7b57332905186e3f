"""Clips in, token ids out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Self, cast

import numpy as np
from numpy.typing import NDArray

from magvit_runtime.backends.backend import Capabilities, DeviceSession, Session
from magvit_runtime.backends.opening import BackendName, check_options, open_role
from magvit_runtime.backends.tensor_check import check_array, check_device_array, check_result
from magvit_runtime.bundle.manifest import GraphRecord, Precision, TensorSpec
from magvit_runtime.bundle.reading import Bundle, open_bundle
from magvit_runtime.cuda.arrays import DeviceArray
from magvit_runtime.door import Door
from magvit_runtime.errors import BackendError, InputError

MOST_CLIPS = 2**31 - 1  # At once, as the numbers of a batch are counted in 32 bits.


class Tokenizer(Door):
    """The encoder of a bundle, ready to run. Open one with `Tokenizer.open`.

    Thread-safe: any number of threads may call it. On a GPU as many batches run at once as there
    are workers (`capabilities.workers`); others wait. It can be pickled, and used in a forked
    process unless it runs on a GPU; docs/embedding.md has the rules.

    Example:
        >>> with Tokenizer.open("open-magvit2-video-128") as tokenizer:
        ...     ids = tokenizer(clips)  # uint8 [N, 17, 128, 128, 3] -> int32 [N, 5, 16, 16]
    """

    def __init__(
        self,
        bundle: Bundle,
        graph: GraphRecord,
        session: Session,
        batch_size: int,
        options: Mapping[str, object] | None = None,
    ) -> None:
        super().__init__(bundle, graph, session, options)
        self._batch_size = batch_size

    @classmethod
    def open(
        cls,
        path: str | Path,
        *,
        backend: BackendName | str = "auto",
        precision: Precision | None = None,
        threads: int | None = None,
        batch_size: int = 1,
        workers: int | None = None,
        require_parity: bool = False,
    ) -> Self:
        """Opens a bundle's encoder, after checking its files against their digests.

        Args:
            path: The bundle's directory.
            backend: Which backend; "auto" takes the best that this machine can do.
            precision: Which of the bundle's encoders; None takes the most precise.
            threads: CPU threads of one run; None is the backend's own choice.
            batch_size: Clips that run at once; memory grows with it. On a CPU 1 is fastest.
            workers: Batches of different threads that run at once on a GPU, each in memory of its
                own; None is one. With two, one batch is copied while another is computed. Only
                native-cuda and engines take it.
            require_parity: Refuse a graph or engine that hasn't passed `magvit verify` as it is
                now: bundle.json must hold a stamp of its name and digest.

        Raises:
            BundleError: There is no sound bundle at `path`, or no valid stamp where one is
                required.
            BackendError: No backend here can run it.
            InputError: An option is out of range.
        """
        if batch_size < 1:
            raise InputError("`batch_size` must be positive", found=batch_size)
        if batch_size > MOST_CLIPS:
            raise InputError("`batch_size` is too large", found=batch_size)
        check_options(backend, threads, workers)
        bundle = open_bundle(path)
        graph, session = open_role(
            bundle,
            "encode",
            backend=backend,
            precision=precision,
            threads=threads,
            workers=workers,
            require_parity=require_parity,
        )
        options = {
            "backend": backend,
            "precision": precision,
            "threads": threads,
            "batch_size": batch_size,
            "workers": workers,
            "require_parity": require_parity,
        }
        return cls(bundle, graph, session, batch_size, options)

    @property
    def capabilities(self) -> Capabilities:
        """What it runs on, and why."""
        return self._session.capabilities

    @property
    def clip_shape(self) -> tuple[int | str, ...]:
        """Shape of one clip, [T, H, W, 3] or [H, W, 3]; a string stands for any size."""
        return self._graph.inputs[0].shape[1:]

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
        return cast(NDArray[np.int32], self._encode(clips, self._graph.output_of("ids")))

    def latents(self, clips: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Latents of clips before quantization: float32 [N, bits, t, h, w]; for parity."""
        return cast(NDArray[np.float32], self._encode(clips, self._graph.output_of("latents")))

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
        frames = self._graph.inputs[0]
        facts = self.capabilities
        if not facts.device_arrays:
            raise BackendError(
                f"{facts.backend} takes no arrays on a GPU",
                found=f"a session on {facts.device}",
                mend="open the tokenizer with backend='native-cuda' or an engine's",
            )
        count = check_device_array("clips", clips, frames)
        if count > self._batch_size:
            raise InputError(
                "clips on the GPU run in one batch",
                found=f"{count} clips",
                expected=f"at most `batch_size`, {self._batch_size}",
                mend="open the tokenizer with a larger `batch_size`, or pass slices",
            )
        session = cast(DeviceSession, self._session)
        spec = self._graph.output_of("ids")
        (ids,) = session.run_device({frames.name: clips}, [spec.name])
        check_result(ids, spec, count)
        return ids

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
        for batch in (self._batch_size,) if batches is None else batches:
            if not 1 <= batch <= self._batch_size:
                raise InputError(
                    "batches of this size don't come",
                    found=batch,
                    expected=f"1 to `batch_size`, {self._batch_size}",
                )
            if self.capabilities.device_arrays:
                cast(DeviceSession, self._session).warm_up((batch, *clip))
            else:
                self(np.zeros((batch, *clip), np.uint8))

    def stream(self, batches: Iterable[NDArray[np.uint8]]) -> Iterator[NDArray[np.int32]]:
        """Token ids of one batch of clips after another; holds one batch at a time."""
        for clips in batches:
            yield self(clips)

    def _encode(self, clips: NDArray[np.uint8], output: TensorSpec) -> NDArray[np.generic]:
        frames = self._graph.inputs[0]
        check_array("clips", clips, frames)
        parts = []
        for i in range(0, len(clips), self._batch_size):
            batch = np.ascontiguousarray(clips[i : i + self._batch_size])
            (part,) = self._session.run({frames.name: batch}, [output.name])
            check_result(part, output, len(batch))
            parts.append(part)
        return parts[0] if len(parts) == 1 else np.concatenate(parts)
