"""Refuses weights that are NaN or infinite, as they stand in a file or after a cast."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from magvit_export.checkpoints.errors import CheckpointError
from magvit_export.mapped_pages import forget_pages


def check_finite(tensors: Mapping[str, Tensor], source: str) -> None:
    """Refuses weights of which an element is NaN or infinite.

    Args:
        tensors: float32, by name.
        source: Where they are from.

    Raises:
        CheckpointError: It names the first such tensor, and counts tensors and elements.
    """
    if bad := _count_not_finite(tensors):
        raise CheckpointError(
            f"{source}: tensor {next(iter(bad))} is not finite",
            found=_counts(bad, tensors),
            mend="take a checkpoint from before its training diverged",
        )


def check_cast(module: nn.Module, precision: str) -> None:
    """Refuses a module whose weights became infinite when it was cast to a half precision.

    Args:
        module: Finite before, and cast since.
        precision: What the user asked for.

    Raises:
        CheckpointError: It names the first such tensor, and counts tensors and elements.
    """
    halves = {
        name: value
        for name, value in module.named_parameters()
        if value.dtype in (torch.float16, torch.bfloat16)
    }
    if bad := _count_not_finite(halves):
        raise CheckpointError(
            f"tensor {next(iter(bad))} overflows in {precision}",
            found=_counts(bad, halves),
            expected=f"at most {torch.finfo(halves[next(iter(bad))].dtype).max:g}",
            mend="export it with --precision fp32" + (" or bf16" if precision == "fp16" else ""),
        )


def _count_not_finite(tensors: Mapping[str, Tensor]) -> dict[str, int]:
    counts = {}
    for name, value in tensors.items():
        counts[name] = value.numel() - int(value.isfinite().sum())
        forget_pages(value)
    return {name: count for name, count in counts.items() if count}


def _counts(bad: Mapping[str, int], tensors: Mapping[str, Tensor]) -> str:
    first = next(iter(bad))
    text = f"{bad[first]} of its {tensors[first].numel()} elements NaN or infinite"
    if len(bad) > 1:
        text += f", {sum(bad.values())} elements in {len(bad)} tensors in all"
    return text
