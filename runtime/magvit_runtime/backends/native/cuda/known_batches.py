"""Which batch sizes a program on a GPU has plans for."""

from __future__ import annotations

import threading

from magvit_runtime.types import Shape


class KnownBatches:
    """Batch sizes whose convs are planned, by the shape of a clip. Thread-safe.

    Timing cuDNN's plans for a new batch size takes far longer than computing a few more clips. So a
    batch is padded to the smallest known size that holds it.
    """

    def __init__(self) -> None:
        self._sizes: dict[Shape, frozenset[int]] = {}
        self._lock = threading.Lock()

    def add(self, clips: Shape) -> None:
        """Notes that clips of this shape, [N, ...], are planned."""
        size, *clip = clips
        with self._lock:
            self._sizes[tuple(clip)] = self._sizes.get(tuple(clip), frozenset()) | {size}

    def fitting(self, clips: Shape) -> Shape:
        """The shape to run clips in: the smallest known batch that holds them, or their own."""
        count, *clip = clips
        with self._lock:
            known = self._sizes.get(tuple(clip), frozenset())
        return min((size for size in known if size >= count), default=count), *clip
