"""Runs an encoder's program on the CPU, clip by clip."""

from __future__ import annotations

import math
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from magvit_runtime.backends.native.cpu.convs import CpuConv, ThreadPool
from magvit_runtime.backends.native.cpu.maps import (
    ALIGNMENT,
    CHANNEL_MULTIPLE,
    Background,
    FeatureMap,
    Floats,
    Moments,
    aligned_floats,
)
from magvit_runtime.backends.native.cpu.sharing import Sharing, background_color, plan_sharing
from magvit_runtime.backends.native.program import Conv, Program, Sizes, channel_pitch
from magvit_runtime.errors import BackendError
from magvit_runtime.native_libraries.operators import lfq


class CpuEncoder:
    """An encoder on the CPU, in float32.

    Thread-safe: one clip at a time runs, on all threads of the pool; other callers wait. Memory of
    a run is kept for the next. `close` must not overlap with a run.

    Args:
        program: What it computes.
        threads: Threads of one run; None is one for each CPU.

    Raises:
        BackendError: The program isn't float32, or the library is missing or refuses a conv.
    """

    def __init__(self, program: Program, threads: int | None = None) -> None:
        for conv in program.convs:
            if conv.weight.dtype != np.float32:
                raise BackendError(
                    "the native backend computes in float32 on a CPU",
                    found=f"{conv.name} of {conv.weight.dtype}",
                    mend="use precision='fp32', or backend='onnxruntime'",
                )
        self._program = program
        self._lock = threading.Lock()
        self._pool = ThreadPool(threads)
        self._memory = _Memory()
        self._convs = [CpuConv(conv, self._pool) for conv in program.convs]
        self._last_reader = {
            name: i
            for i, conv in enumerate(program.convs)
            for name in (conv.input, conv.residual)
            if name is not None
        }

    @property
    def threads(self) -> int:
        """Threads of one run."""
        return self._pool.threads

    def run(self, frames: NDArray[np.uint8]) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        """Encodes clips.

        Args:
            frames: uint8 [N, T, H, W, 3] (or [N, H, W, 3] for images).

        Returns:
            int32 ids [N, t, h, w] and float32 latents [N, C, t, h, w] (or without t).

        Raises:
            BackendError: The clips are too small for the convs or too large for the memory.
        """
        clips = frames if self._program.is_video else frames[:, None]
        self._check_sizes(clips.shape[1:4])
        try:
            with self._lock:
                latents = np.stack([self._encode(clip) for clip in clips])
        except MemoryError as error:
            raise BackendError("there is no memory for clips of this size") from error
        if not self._program.is_video:
            latents = latents[:, :, 0]
        return lfq(latents, threads=1), latents

    def close(self) -> None:
        """Frees weights, memory and threads."""
        for conv in self._convs:
            conv.close()
        self._convs = []
        self._memory = _Memory()
        self._pool.close()

    def _check_sizes(self, sizes: Sizes) -> None:
        known = {self._program.pixels: sizes}
        for conv in self._program.convs:
            written = conv.output_sizes(known[conv.input])
            if min(written) < 1 or (conv.residual and known[conv.residual] != written):
                raise BackendError(
                    "the native backend can't run clips of this size",
                    found=f"{list(sizes)}, of which {conv.name} would make {list(written)}",
                )
            known[conv.output] = written

    def _encode(self, frames: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Latents [C, t, h, w] of one clip [T, H, W, 3]."""
        program = self._program
        color = background_color(frames)
        sharing = plan_sharing(program, frames, color)
        maps = {program.pixels: self._pixels(frames, color, sharing)}
        moments: dict[str, Moments | None] = {}
        for i, (conv, kernel) in enumerate(zip(program.convs, self._convs, strict=True)):
            source = maps[conv.input]
            residual = None if conv.residual is None else maps[conv.residual]
            frame_count, height, width = source.values.shape[:3]
            sizes = conv.output_sizes((frame_count, height, width))
            normalization = program.normalization_of(conv.output)
            target = self._new_map(
                sizes,
                conv.weight.shape[0],
                sharing.get(conv.output),
                residual if self._takes_place(i, conv) else None,
                needs_counts=normalization is not None,
            )
            moments[conv.output] = kernel.run(
                self._pool,
                source,
                target,
                normalization=conv.normalization,
                moments=moments.get(conv.input),
                residual=residual,
                groups=None if normalization is None else normalization.groups,
            )
            maps[conv.output] = target
            for name in {conv.input, conv.residual} - {None}:
                if name is not None and self._last_reader[name] == i:
                    self._give_back(maps.pop(name), kept=target)
        latents = maps.pop(program.latents)
        # A copy even of a single position, for the memory is used again.
        result = np.moveaxis(latents.values[..., : latents.channels], -1, 0).copy()
        self._give_back(latents)
        return result

    def _takes_place(self, index: int, conv: Conv) -> bool:
        """Whether a sum may take the place of what it adds to: nothing else reads that any more."""
        residual = conv.residual
        return residual is not None and (
            residual != conv.input and self._last_reader[residual] == index
        )

    def _pixels(
        self,
        frames: NDArray[np.uint8],
        color: NDArray[np.uint8],
        sharing: Mapping[str, Sharing],
    ) -> FeatureMap:
        levels = np.arange(256, dtype=np.float32) / np.float32(self._program.pixel_divisor)
        levels += np.float32(self._program.pixel_offset)
        sizes = frames.shape[0], frames.shape[1], frames.shape[2]
        pixels = self._new_map(
            sizes, 3, sharing.get(self._program.pixels), None, needs_counts=False
        )
        pixels.values[..., :3] = levels[frames]
        pixels.values[..., 3:] = 0
        if pixels.background is not None:
            pixels.background.values[..., :3] = levels[color]
            pixels.background.values[..., 3:] = 0
        return pixels

    def _new_map(
        self,
        sizes: Sizes,
        channels: int,
        sharing: Sharing | None,
        place: FeatureMap | None,
        *,
        needs_counts: bool,
    ) -> FeatureMap:
        pitch = channel_pitch(channels, CHANNEL_MULTIPLE)
        values = self._memory.take((*sizes, pitch)) if place is None else place.values
        if sharing is None:
            return FeatureMap(values, channels)
        background = Background(
            np.ascontiguousarray(sharing.first_frames),
            self._memory.take((sizes[0], *sharing.background_sizes, pitch)),
            sharing.counts() if needs_counts else None,
        )
        return FeatureMap(values, channels, background)

    def _give_back(self, unused: FeatureMap, kept: FeatureMap | None = None) -> None:
        if kept is None or unused.values is not kept.values:
            self._memory.give_back(unused.values)
        if unused.background is not None:
            self._memory.give_back(unused.background.values)


@dataclass
class _Memory:
    """Memory that is used again, so that a run of a known size allocates nothing."""

    free: list[NDArray[np.uint8]] = field(default_factory=list)

    def take(self, shape: tuple[int, ...]) -> Floats:
        """An array of a shape, its values undefined."""
        size = math.prod(shape) * 4 + ALIGNMENT
        # What is much larger is left for a map that needs it.
        fitting = [memory for memory in self.free if size <= memory.size <= 2 * size]
        memory = min(fitting, key=len, default=None)
        if memory is None:
            memory = np.empty(size, np.uint8)
        else:
            self.free = [other for other in self.free if other is not memory]
        return aligned_floats(memory, shape)

    def give_back(self, array: Floats) -> None:
        """Takes back an array of `take`."""
        assert array.base is not None  # NumPy's base of a view is the memory's owner.
        self.free.append(array.base)
