"""Runs a program on the CPU, clip by clip."""

from __future__ import annotations

import math
import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from magvit_runtime.backends.native.classifier_steps import (
    Classes,
    DigitRows,
    Mixture,
    Rectification,
)
from magvit_runtime.backends.native.cpu.attention import attend
from magvit_runtime.backends.native.cpu.classifying import (
    probabilities_of,
    write_digit_rows,
)
from magvit_runtime.backends.native.cpu.convs import CpuConv, ThreadPool
from magvit_runtime.backends.native.cpu.decoding import (
    adapt,
    move_depth_to_space,
    repeat_positions,
    round_to_bytes,
    statistic_of,
    write_codes,
    write_rows,
)
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
from magvit_runtime.backends.native.decoder_steps import (
    AdaptiveNormalization,
    CodebookRows,
    DepthToSpace,
    PixelRounding,
    Repetition,
    SignCodes,
)
from magvit_runtime.backends.native.program import (
    Attention,
    ClipShape,
    CodebookSearch,
    Conv,
    LookupFreeQuantization,
    Output,
    PixelNormalization,
    Program,
    channel_pitch,
)
from magvit_runtime.errors import BackendError
from magvit_runtime.native_libraries.operators import codebook_argmax, lfq
from magvit_runtime.types import Array


@dataclass
class _Clip:
    """One clip's values, as far as steps have run.

    Attributes:
        shapes: Of all values.
        arrays: Frames, [T, H, W, C], and ids, [t, h, w].
        maps: Feature maps that are still needed.
        moments: Moments of the maps that a normalisation reads.
        sharing: Maps that share their background; the others are computed whole.
    """

    shapes: Mapping[str, ClipShape]
    arrays: dict[str, Array]
    maps: dict[str, FeatureMap] = field(default_factory=dict)
    moments: dict[str, Moments | None] = field(default_factory=dict)
    sharing: dict[str, Sharing] = field(default_factory=dict)


class CpuExecutor:
    """A program on the CPU, in float32.

    Thread-safe: one clip at a time runs, on all threads of the pool; other callers wait. A run's
    memory is kept for the next run. `close` must not overlap with a run.

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
        self._convs = {conv.output: CpuConv(conv, self._pool) for conv in program.convs}
        # Copies: what the graph's file holds may be given back.
        self._codebooks = {
            step.output: np.array(step.codebook, order="C")
            for step in program.steps
            if isinstance(step, CodebookSearch | CodebookRows)
        }
        # Groups of the maps whose moments are needed.
        self._groups = {
            conv.input: conv.normalization.groups
            for conv in program.convs
            if conv.normalization is not None
        }
        self._last_reader = {
            name: i for i, step in enumerate(program.steps) for name in step.reads
        } | {output.value: len(program.steps) for output in program.outputs}

    @property
    def threads(self) -> int:
        """Threads of one run."""
        return self._pool.threads

    def run(self, inputs: Mapping[str, Array], outputs: Sequence[str]) -> list[Array]:
        """Runs a batch.

        Args:
            inputs: Every input of the program by name.
            outputs: Names of the outputs wanted.

        Returns:
            Those outputs, in this order.

        Raises:
            BackendError: The clips are too small for the convs or too large for the memory.
        """
        sources = self._program.inputs
        shapes = self._program.shapes(
            {source.name: source.clip_shape(inputs[source.name].shape) for source in sources}
        )
        batch = {source.name: source.clips(inputs[source.name]) for source in sources}
        by_name = {output.name: output for output in self._program.outputs}
        wanted = [by_name[name] for name in outputs]
        try:
            with self._lock:
                results = [
                    self._run_clip(_Clip(shapes, dict(zip(batch, arrays, strict=True))), wanted)
                    for arrays in zip(*batch.values(), strict=True)
                ]
            return [np.stack(result) for result in zip(*results, strict=True)]
        except MemoryError as error:
            raise BackendError("there is no memory for clips of this size") from error

    def close(self) -> None:
        """Frees weights, memory and threads."""
        for conv in self._convs.values():
            conv.close()
        self._convs, self._codebooks = {}, {}
        self._memory = _Memory()
        self._pool.close()

    def _run_clip(self, clip: _Clip, outputs: Iterable[Output]) -> list[Array]:
        for i, step in enumerate(self._program.steps):
            match step:
                case PixelNormalization():
                    self._normalize_pixels(step, clip)
                case Conv():
                    self._convolve(i, step, clip)
                case LookupFreeQuantization():
                    latents = _channels_first(clip.maps[step.input])
                    clip.arrays[step.output] = lfq(latents[None], threads=1)[0]
                case Attention():
                    self._attend(step, clip)
                case CodebookSearch():
                    latents = _channels_first(clip.maps[step.input])
                    found = codebook_argmax(
                        latents[None], self._codebooks[step.output], threads=self.threads
                    )
                    clip.arrays[step.output], clip.arrays[step.margins] = (x[0] for x in found)
                case SignCodes():
                    codes = self._new_map(step.output, clip)
                    write_codes(clip.arrays[step.input], codes)
                    clip.maps[step.output] = codes
                case CodebookRows():
                    step.check(clip.arrays[step.input])
                    rows = self._new_map(step.output, clip)
                    write_rows(clip.arrays[step.input], self._codebooks[step.output], rows)
                    clip.maps[step.output] = rows
                case AdaptiveNormalization():
                    self._adapt(i, step, clip)
                case DepthToSpace():
                    finer = self._new_map(step.output, clip)
                    move_depth_to_space(self._pool, clip.maps[step.input], step.block, finer)
                    clip.maps[step.output] = finer
                case Repetition():
                    finer = self._new_map(step.output, clip)
                    repeat_positions(step, clip.maps[step.input], finer)
                    clip.maps[step.output] = finer
                case DigitRows():
                    rows = self._new_map(step.output, clip)
                    write_digit_rows(step, clip.arrays[step.input], rows)
                    clip.maps[step.output] = rows
                case Rectification():
                    self._rectify(i, step, clip)
                case Classes():
                    clip.arrays[step.output] = probabilities_of(step, clip.maps[step.input])
                case Mixture():
                    parts = np.stack([clip.arrays[name] for name in step.inputs])
                    clip.arrays[step.output] = parts.sum(axis=0) * np.float32(step.scale)
                case PixelRounding():
                    clip.arrays[step.output] = round_to_bytes(step, clip.maps[step.input])
            unused = {name for name in step.reads if self._last_reader[name] == i}
            self._give_back(clip, unused, kept=clip.maps.get(step.output))
        results = [_result(output, clip) for output in outputs]
        self._give_back(clip, set(clip.maps), kept=None)
        return results

    def _normalize_pixels(self, step: PixelNormalization, clip: _Clip) -> None:
        frames = clip.arrays[step.input]
        color = background_color(frames)
        clip.sharing |= plan_sharing(self._program, step.output, frames, color)
        levels = np.arange(256, dtype=np.float32) / np.float32(step.divisor)
        levels += np.float32(step.offset)
        pixels = self._new_map(step.output, clip)
        channels = pixels.channels
        pixels.values[..., :channels] = levels[frames]
        pixels.values[..., channels:] = 0
        if pixels.background is not None:
            pixels.background.values[..., :channels] = levels[color]
            pixels.background.values[..., channels:] = 0
        clip.maps[step.output] = pixels

    def _convolve(self, index: int, conv: Conv, clip: _Clip) -> None:
        residual = None if conv.residual is None else clip.maps[conv.residual]
        # A sum may be written over the map that it adds to, if no later step reads that map.
        takes_place = (
            conv.residual is not None
            and conv.residual != conv.input
            and self._last_reader[conv.residual] == index
        )
        target = self._new_map(conv.output, clip, residual if takes_place else None)
        clip.moments[conv.output] = self._convs[conv.output].run(
            self._pool,
            clip.maps[conv.input],
            target,
            normalization=conv.normalization,
            moments=clip.moments.get(conv.input),
            residual=residual,
            groups=self._groups.get(conv.output),
        )
        clip.maps[conv.output] = target

    def _adapt(self, index: int, step: AdaptiveNormalization, clip: _Clip) -> None:
        source = clip.maps[step.input]
        is_last = self._last_reader[step.input] == index
        target = self._new_map(step.output, clip, source if is_last else None)
        if not is_last:
            np.copyto(target.values, source.values)
        scale, shift = (statistic_of(one, clip.maps[one.map]) for one in (step.scale, step.shift))
        clip.moments[step.output] = adapt(self._pool, step, target, scale, shift)
        clip.maps[step.output] = target

    def _rectify(self, index: int, step: Rectification, clip: _Clip) -> None:
        source = clip.maps[step.input]
        is_last = self._last_reader[step.input] == index
        target = self._new_map(step.output, clip, source if is_last else None)
        np.maximum(source.values, 0, out=target.values)
        clip.maps[step.output] = target

    def _attend(self, step: Attention, clip: _Clip) -> None:
        target = self._new_map(step.output, clip)
        queries, keys, values = (clip.maps[name] for name in step.reads)
        attend(self._pool, queries, keys, values, target)
        clip.maps[step.output] = target

    def _new_map(self, value: str, clip: _Clip, place: FeatureMap | None = None) -> FeatureMap:
        """A map for a value, in its own memory or in that of another map."""
        *sizes, channels = clip.shapes[value]
        pitch = channel_pitch(channels, CHANNEL_MULTIPLE)
        values = self._memory.take((*sizes, pitch)) if place is None else place.values
        sharing = clip.sharing.get(value)
        if sharing is None:
            return FeatureMap(values, channels)
        background = Background(
            np.ascontiguousarray(sharing.first_frames),
            self._memory.take((sizes[0], *sharing.background_sizes, pitch)),
            sharing.counts() if value in self._groups else None,
        )
        return FeatureMap(values, channels, background)

    def _give_back(self, clip: _Clip, names: set[str], kept: FeatureMap | None) -> None:
        """Frees the maps of these names, except memory that another map now uses."""
        for name in names & clip.maps.keys():
            unused = clip.maps.pop(name)
            if kept is None or unused.values is not kept.values:
                self._memory.give_back(unused.values)
            if unused.background is not None:
                self._memory.give_back(unused.background.values)


def _result(output: Output, clip: _Clip) -> Array:
    """The array that an output gives for one clip."""
    if output.is_map:
        result: Array = _channels_first(clip.maps[output.value])
    else:
        result = clip.arrays[output.value]
    if output.layout == "NC":
        return result
    # Bytes have their channels last.
    return result if "T" in output.layout else result.squeeze(0 if output.dtype == "uint8" else -3)


def _channels_first(features: FeatureMap) -> NDArray[np.float32]:
    """A copy, [C, T, H, W]; also of a single position, because the memory is used again."""
    return np.moveaxis(features.values[..., : features.channels], -1, 0).copy()


@dataclass
class _Memory:
    """Memory that is used again, so that a run of a known size allocates nothing."""

    free: list[NDArray[np.uint8]] = field(default_factory=list)

    def take(self, shape: tuple[int, ...]) -> Floats:
        """An array of a shape, its values undefined."""
        size = math.prod(shape) * 4 + ALIGNMENT
        # A much larger array is left for a map that needs it.
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
