"""Finds the modules at which an exported graph's error arises.

PyTorch runs in float64. After each of its modules, the graph's part of the same name runs twice:
once on the graph's own values so far, and once on PyTorch's values. So each module's own error is
separate from the error of its inputs. Only values that later parts need are held.

A graph in parts rounds at every boundary, as a GPU does. ONNX Runtime's CPU provider rounds a whole
graph at only some of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from heapq import nlargest
from itertools import pairwise
from math import sqrt
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from magvit_export.onnx.stages import (
    NORMALIZATION,
    QUANTIZER,
    StagedGraph,
    StageValues,
)
from magvit_export.verification.islands import Island, largest_own_errors, measure_islands
from magvit_export.verification.pytorch_reference import TorchRole
from magvit_runtime.agreement import RMS_LIMITS
from magvit_runtime.bundle.manifest import GraphRecord, Precision
from magvit_runtime.bundle.reading import Bundle
from magvit_runtime.clips.batches import in_batches
from magvit_runtime.clips.samples import CLIP_NAMES, usual_shape, verification_clips
from magvit_runtime.errors import BackendError, InputError

# A clip like those of users, and one that shows a wrong epsilon. Each costs three encoder runs.
CLIPS = ("drawn", "grey")

Array = NDArray[Any]


@dataclass(frozen=True)
class StageError:
    """Errors at the boundary after one module.

    Both are rms errors in units of the standard deviation that the reference's values have at this
    boundary. For the quantizer, whose ids have no size, they are shares of changed ids.

    Attributes:
        module: Path of the torch module; "pixel normalization" and "quantizer" are functions.
        accumulated: The error with inputs that the graph itself computed, from the frames on.
        own: The error with the reference's inputs.
    """

    module: str
    accumulated: float
    own: float


@dataclass(frozen=True)
class Bisection:
    """Where one graph's error arises.

    Attributes:
        precision: The graph's precision.
        stages: Errors after each module, in the order in which they run.
        islands: For half precision, the modules whose own errors are largest, best island first.
        why_not: Why this graph can't run here; "" otherwise.
    """

    precision: Precision
    stages: tuple[StageError, ...] = ()
    islands: tuple[Island, ...] = ()
    why_not: str = ""

    @property
    def rms(self) -> float:
        """The latents' rms error, in σ_z."""
        return self.stages[-2].accumulated

    @property
    def wrong(self) -> tuple[str, ...]:
        """Modules whose own error is more than an equal share of the whole encoder's limit.

        Independent errors add up as squares do. If no module has more, the sum is in the limit.
        """
        *values, quantizer = self.stages
        share = RMS_LIMITS[self.precision] / sqrt(len(values))
        wrong = [stage.module for stage in values if not stage.own <= share]
        return (*wrong, quantizer.module) if quantizer.own > 0 else tuple(wrong)

    @property
    def all_weights_differ(self) -> bool:
        """Whether every module that has weights is wrong."""
        blocks = {stage.module.rpartition(".")[0] for stage in self.stages}
        weighted = {stage.module for stage in self.stages[1:-1]} - blocks
        return weighted <= set(self.wrong)

    @property
    def growth(self) -> tuple[tuple[StageError, StageError], ...]:
        """Where on the main path, outside of blocks, the square of the error grows most.

        Returns:
            Three pairs of neighbours, the boundary before and the boundary after it.
        """
        modules = {stage.module for stage in self.stages}
        path = [
            stage for stage in self.stages[:-1] if stage.module.rpartition(".")[0] not in modules
        ]
        pairs = pairwise(path)
        return tuple(
            nlargest(3, pairs, key=lambda pair: pair[1].accumulated ** 2 - pair[0].accumulated ** 2)
        )


@dataclass
class _Sums:
    """The errors of one boundary's values, over all clips."""

    count: int = 0
    total: float = 0.0
    squares: float = 0.0
    accumulated: float = 0.0
    own: float = 0.0

    def add(self, reference: Array, accumulated: Array, own: Array) -> None:
        self.count += reference.size
        self.total += float(reference.sum(dtype=np.float64))
        self.squares += _sum_of_squares(reference)
        self.accumulated += _sum_of_squares(accumulated - reference)
        self.own += _sum_of_squares(own - reference)

    def errors(self, module: str) -> StageError:
        variance = self.squares / self.count - (self.total / self.count) ** 2
        scale = 1 / (self.count * variance)
        return StageError(module, sqrt(self.accumulated * scale), sqrt(self.own * scale))


@dataclass
class _ChangedIds(_Sums):
    """The errors of the quantizer's ids, over all clips."""

    def add(self, reference: Array, accumulated: Array, own: Array) -> None:
        self.count += reference.size
        self.accumulated += int((accumulated != reference).sum())
        self.own += int((own != reference).sum())

    def errors(self, module: str) -> StageError:
        return StageError(module, self.accumulated / self.count, self.own / self.count)


def check_cuts(bundle: Bundle, encoder: TorchRole) -> None:
    """Refuses a bundle that can't be bisected, before any work.

    Raises:
        InputError: Its family doesn't say where its graphs can be cut.
    """
    if encoder.export.cuts is None:
        raise InputError(
            f"graphs of the family {bundle.manifest.component.family!r} can't be cut in stages",
            mend="leave --bisect out",
        )


def bisect_bundle(
    bundle: Bundle, encoder: TorchRole, advance: Callable[[int], None] = lambda _: None
) -> Iterator[Bisection]:
    """Finds where the error of each of a bundle's graphs arises, in ONNX Runtime.

    Args:
        bundle: The bundle.
        encoder: Its encoder in PyTorch; it is converted to float64.
        advance: Called with 1 after each stage.

    Raises:
        InputError: Its family doesn't say where its graphs can be cut.
        BundleError: A file was changed, or a graph's nodes aren't named after the modules.
    """
    check_cuts(bundle, encoder)
    assert encoder.export.cuts is not None
    module = encoder.module.double()
    cuts = dict(encoder.export.cuts(module))
    for precision, record in bundle.graphs("encode").items():
        graph = StagedGraph(bundle.verified_graph(record), precision, cuts)
        try:
            yield _bisect(graph, module, cuts, _batches(record), advance)
        except BackendError as error:
            yield Bisection(precision, why_not=str(error))


def _batches(graph: GraphRecord) -> list[NDArray[np.uint8]]:
    batch, *clip_shape = graph.inputs[0].shape
    clips = verification_clips(usual_shape(clip_shape))
    chosen = clips[[CLIP_NAMES.index(name) for name in CLIPS]]
    size = batch if isinstance(batch, int) else 1
    return [frames for frames, _ in in_batches(chosen, size)]


def _bisect(
    graph: StagedGraph,
    encoder: nn.Module,
    cuts: Mapping[str, nn.Module],
    batches: Sequence[NDArray[np.uint8]],
    advance: Callable[[int], None],
) -> Bisection:
    sums = {stage.module: _Sums() for stage in graph.stages} | {QUANTIZER: _ChangedIds()}
    latents = [_walk(graph, encoder, cuts, frames, sums, advance) for frames in batches]
    stages = tuple(of_all.errors(module) for module, of_all in sums.items())
    result = Bisection(graph.precision, stages)
    if result.wrong or graph.precision in ("fp32", "tf32"):
        return result
    candidates = largest_own_errors({stage.module: stage.own for stage in stages}, encoder)
    islands = measure_islands(graph, encoder, candidates, batches, np.concatenate(latents))
    return replace(result, islands=islands)


def _walk(
    graph: StagedGraph,
    encoder: nn.Module,
    cuts: Mapping[str, nn.Module],
    frames: NDArray[np.uint8],
    sums: dict[str, _Sums],
    advance: Callable[[int], None],
) -> Array:
    """Runs both sides on a batch, stage by stage; returns the reference's latents."""
    stages = {stage.module: stage for stage in graph.stages}
    references: StageValues[Array] = StageValues(graph, frames)
    ours: StageValues[Array] = StageValues(graph, frames)

    def compare(module: str, expected: Tensor) -> None:
        stage, reference = stages[module], expected.numpy()
        accumulated, own = graph.run(stage, ours.take(stage), references.take(stage))
        sums[module].add(reference, accumulated, own)
        references.give(stage, reference)
        ours.give(stage, accumulated)
        advance(1)

    with ExitStack() as hooks, torch.inference_mode():
        first = next(iter(cuts.values()))
        before = first.register_forward_pre_hook(
            lambda _, inputs: compare(NORMALIZATION, inputs[0])
        )
        hooks.callback(before.remove)
        for path, module in cuts.items():
            after = module.register_forward_hook(
                lambda _, __, output, path=path: compare(path, output)
            )
            hooks.callback(after.remove)
        ids, latents = encoder(torch.from_numpy(frames))
        compare(QUANTIZER, ids)
    result: Array = latents.numpy()
    return result


def _sum_of_squares(values: Array) -> float:
    with np.errstate(invalid="ignore", over="ignore"):
        return float(np.vdot(values, values))
