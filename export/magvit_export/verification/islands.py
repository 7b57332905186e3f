"""Measures the gain of computing one module of a half-precision graph in float32."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from heapq import nlargest
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from magvit_export.layers.residual_block import ResidualBlock
from magvit_export.onnx.stages import (
    NORMALIZATION,
    QUANTIZER,
    Stage,
    StagedGraph,
    StageValues,
)
from magvit_runtime.agreement.signs import compare_latents

MEASURED = 3


@dataclass(frozen=True)
class Island:
    """One module in float32; all others keep their precision.

    Attributes:
        module: Path of the torch module: a residual block, or a layer outside of them.
        rms: The latents' rms error with this island, in σ_z.
    """

    module: str
    rms: float


def largest_own_errors(own: Mapping[str, float], encoder: nn.Module) -> list[str]:
    """The modules worth trying as islands: three whose layers have the largest errors of their own.

    Args:
        own: Each stage's own error, by module.
        encoder: Their encoder.
    """
    squares: dict[str, float] = defaultdict(float)
    for module, error in own.items():
        if module not in (NORMALIZATION, QUANTIZER):
            squares[_island_around(module, encoder)] += error**2
    return nlargest(MEASURED, squares, key=squares.__getitem__)


def measure_islands(
    graph: StagedGraph,
    encoder: nn.Module,
    modules: Sequence[str],
    batches: Sequence[NDArray[np.uint8]],
    reference: NDArray[np.floating],
) -> tuple[Island, ...]:
    """Runs the graph once for each island on all clips, and compares its latents.

    Args:
        graph: The graph in stages.
        encoder: Computes the islands. float64 is good enough, because its difference to float32 is
            a thousandth of half precision's.
        modules: One island each.
        batches: uint8 clips.
        reference: The reference's latents of all clips.

    Returns:
        Islands, the best first.
    """
    islands = []
    for module in modules:
        latents = [_latents(graph, encoder, module, frames) for frames in batches]
        agreement = compare_latents(np.concatenate(latents), reference)
        islands.append(Island(module, agreement.rms))
    return tuple(sorted(islands, key=lambda island: island.rms))


def _island_around(path: str, encoder: nn.Module) -> str:
    module = encoder.get_submodule(path)
    in_block = any(
        module in block.children()
        for block in encoder.modules()
        if isinstance(block, ResidualBlock)
    )
    return path.rpartition(".")[0] if in_block else path


def _latents(
    graph: StagedGraph, encoder: nn.Module, island: str, frames: NDArray[np.uint8]
) -> NDArray[Any]:
    values: StageValues[NDArray[Any]] = StageValues(graph, frames)
    for stage in graph.stages[:-1]:
        inputs = values.take(stage)
        if island in (stage.module, stage.module.rpartition(".")[0]):
            result = _in_torch(encoder, stage, inputs)
        else:
            (result,) = graph.run(stage, inputs)
        values.give(stage, result)
    return result


def _in_torch(encoder: nn.Module, stage: Stage, inputs: Mapping[str, NDArray[Any]]) -> NDArray[Any]:
    module = encoder.get_submodule(stage.module)
    tensors = [torch.from_numpy(inputs[name]).double() for name in stage.inputs]
    with torch.inference_mode():
        # A block's layers are stages themselves; the rest of the block is the sum.
        result = torch.add(*tensors) if isinstance(module, ResidualBlock) else module(*tensors)
    output: NDArray[np.float64] = result.numpy()
    return output
