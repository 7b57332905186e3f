"""Tokens in a Ray Data pipeline: a class for `Dataset.map_batches`.

Example:
    >>> clips.map_batches(
    ...     TokenizeBatches,
    ...     fn_constructor_args=("bundle",),
    ...     batch_size=16,
    ...     num_cpus=1,
    ...     compute=ray.data.ActorPoolStrategy(size=4),
    ... )
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from magvit_runtime.bundle.manifest import Precision
from magvit_runtime.errors import InputError
from magvit_runtime.serving.ray_metrics import ClipMetrics
from magvit_runtime.tokenizer import Tokenizer


class TokenizeBatches:
    """Turns batches of clips into batches of token ids; an actor of Ray holds one.

    Ray itself isn't needed to use it, and its errors are those of `Tokenizer`.

    Args:
        bundle: The bundle's directory, on every machine of the cluster; or its address on the
            hub, with the commit, since each actor asks for it.
        backend: What runs the model; "auto" takes the best of each actor's machine.
        precision: Which of the bundle's encoders; None takes the most precise.
        threads: CPU threads of an actor: as many as `num_cpus` gives it, at least one. Ray doesn't
            keep an actor from taking more.
        batch_size: Clips that run at once; a batch of Ray's may have more.
        frames: The column of clips: uint8 RGB, [N, T, H, W, 3], or [N, H, W, 3] for an image model.
        tokens: The column for ids, int32 [N, t, h, w] or [N, h, w], which takes the clips' place.
    """

    def __init__(
        self,
        bundle: str | Path,
        *,
        backend: str = "auto",
        precision: Precision | None = None,
        threads: int | None = 1,
        batch_size: int = 1,
        frames: str = "frames",
        tokens: str = "tokens",
    ) -> None:
        self._frames = frames
        self._tokens = tokens
        self._tokenizer = Tokenizer.open(
            bundle, backend=backend, precision=precision, threads=threads, batch_size=batch_size
        )
        self._metrics = ClipMetrics(self._tokenizer.bundle.manifest.model)

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Replaces the clips of a batch by their ids; other columns stay.

        Args:
            batch: Arrays of equal length by column, as `map_batches` gives them.

        Raises:
            InputError: There is no such column, or it holds something else than clips.
        """
        if self._frames not in batch:
            found = ", ".join(batch)
            raise InputError("a batch has no clips", found=found, expected=self._frames)
        rest = {name: column for name, column in batch.items() if name != self._frames}
        clips = batch[self._frames]
        with self._metrics.batch(len(clips)):
            return rest | {self._tokens: self._tokenizer(clips)}
