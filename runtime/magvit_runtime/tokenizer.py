"""Clips in, token ids out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Self, cast

import numpy as np
from numpy.typing import NDArray

from magvit_runtime.bundle import EXPORT_AGAIN, Bundle, open_bundle
from magvit_runtime.closing import Closing
from magvit_runtime.errors import BundleError, InputError
from magvit_runtime.manifest import GraphRecord, Precision, TensorSpec
from magvit_runtime.sessions import Backend, Capabilities, Session, open_encoder
from magvit_runtime.tensor_check import check_array, check_result


class Tokenizer(Closing):
    """The encoder of a bundle, ready to run. Open one with `Tokenizer.open`.

    Thread-safe as far as its session is: with ONNX Runtime, any number of threads may call it.

    Example:
        >>> with Tokenizer.open("open-magvit2-video-128") as tokenizer:
        ...     ids = tokenizer(clips)  # uint8 [N, 17, 128, 128, 3] -> int32 [N, 5, 16, 16]
    """

    def __init__(
        self, bundle: Bundle, graph: GraphRecord, session: Session, batch_size: int
    ) -> None:
        self.bundle = bundle
        self._graph = graph
        self._session = session
        self._batch_size = batch_size

    @classmethod
    def open(
        cls,
        path: str | Path,
        *,
        backend: Backend = "auto",
        precision: Precision | None = None,
        threads: int | None = None,
        batch_size: int = 1,
        require_parity: bool = False,
    ) -> Self:
        """Opens a bundle's encoder, after checking its files against their digests.

        Args:
            path: The bundle's directory.
            backend: Which backend; "auto" takes the best that this machine can do.
            precision: Which of the bundle's encoders; None takes the most precise.
            threads: CPU threads of one run; None is the backend's own choice.
            batch_size: Clips that run at once; memory grows with it. On a CPU 1 is fastest.
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
        bundle = open_bundle(path)
        graph, session = open_encoder(
            bundle,
            backend=backend,
            precision=precision,
            threads=threads,
            require_parity=require_parity,
        )
        return cls(bundle, graph, session, batch_size)

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
        return cast(NDArray[np.int32], self._encode(clips, "ids"))

    def latents(self, clips: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Latents of clips before quantization: float32 [N, bits, t, h, w]; for parity."""
        return cast(NDArray[np.float32], self._encode(clips, "latents"))

    def stream(self, batches: Iterable[NDArray[np.uint8]]) -> Iterator[NDArray[np.int32]]:
        """Token ids of one batch of clips after another; holds one batch at a time."""
        for clips in batches:
            yield self(clips)

    def close(self) -> None:
        """Frees the session."""
        self._session.close()

    def _encode(self, clips: NDArray[np.uint8], output: str) -> NDArray[np.generic]:
        frames = self._graph.inputs[0]
        check_array("clips", clips, frames)
        spec = self._output(output)
        parts = []
        for i in range(0, len(clips), self._batch_size):
            batch = np.ascontiguousarray(clips[i : i + self._batch_size])
            (part,) = self._session.run({frames.name: batch}, [output])
            check_result(part, spec, len(batch))
            parts.append(part)
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def _output(self, name: str) -> TensorSpec:
        for spec in self._graph.outputs:
            if spec.name == name:
                return spec
        raise BundleError(
            f"the encoder of {self.bundle.path} has no output {name!r}",
            found=", ".join(spec.name for spec in self._graph.outputs),
            mend=EXPORT_AGAIN,
        )
