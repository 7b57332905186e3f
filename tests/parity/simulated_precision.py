"""Simulates hardware of lower precision, in float32 on any CPU.

Values are rounded to the type where the type would hold them; products are summed in float32, as
tensor cores do. A CPU's own half convs take a hundred times as long, and TF32 has none.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from magvit_export.families.magvit.encoder import Encoder
from magvit_export.layers.convs import CausalConv3d, SameConv2d
from magvit_export.layers.group_norm import GroupNormSiLU
from magvit_export.layers.residual_block import ResidualBlock

Rounding = Callable[[Tensor], Tensor]
TF32_DROPPED_BITS = 13


def to_tf32(x: Tensor) -> Tensor:
    """float32 to the nearest value of 10 mantissa bits, ties away from zero.

    This is the conversion `cvt.rna.tf32.f32` of NVIDIA's PTX ISA.
    """
    bits = x.contiguous().view(torch.int32)
    half = 1 << (TF32_DROPPED_BITS - 1)
    # The sign is a separate bit, so adding to the magnitude rounds away from zero.
    rounded = (bits + half) & -(1 << TF32_DROPPED_BITS)
    return torch.where(x.isfinite(), rounded.view(torch.float32), x)


def to_fp16(x: Tensor) -> Tensor:
    """float32 to the nearest float16, ties to even; beyond 65,504 to infinity."""
    return x.half().float()


def to_bf16(x: Tensor) -> Tensor:
    """float32 to the nearest bfloat16, ties to even."""
    return x.bfloat16().float()


def unrounded(x: Tensor) -> Tensor:
    """The residual stream if it is kept in float32."""
    return x


def naive_sum(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    """Sum over the first axis in float32, one row after another.

    NumPy adds the rows of a C-contiguous array in this way; along the last axis it adds in pairs.
    """
    total: NDArray[np.float32] = np.add.reduce(rows, axis=0, dtype=np.float32)
    return total


def naive_group_norm(
    x: Tensor, weight: Tensor, bias: Tensor, groups: int, epsilon: float
) -> Tensor:
    """GroupNorm by one pass of float32 sums, one value after another.

    Args:
        x: float32 [N, C, ...].
        weight, bias: float32 [C].
        groups: Groups of channels.
        epsilon: Added to the variance.
    """
    grouped = x.reshape(len(x), groups, -1)
    count = grouped.shape[2]
    rows = np.ascontiguousarray(np.moveaxis(grouped.numpy(), 2, 0))
    mean = torch.from_numpy(naive_sum(rows)) / count
    mean_square = torch.from_numpy(naive_sum(rows * rows)) / count
    # A difference of two rounded sums can be below zero, and would then have no root.
    variance = (mean_square - mean.square()).clamp(min=0)
    normalized = (grouped - mean[..., None]) / (variance + epsilon).sqrt()[..., None]
    channels = (-1, *[1] * (x.ndim - 2))
    return normalized.reshape(x.shape) * weight.view(channels) + bias.view(channels)


def channels_last_group_norm(
    x: Tensor, weight: Tensor, bias: Tensor, groups: int, epsilon: float
) -> Tensor:
    """GroupNorm by torch's own kernel for channels-last memory; as `naive_group_norm`."""
    layout = torch.channels_last_3d if x.ndim == 5 else torch.channels_last
    return F.group_norm(x.contiguous(memory_format=layout), groups, weight, bias, epsilon)


def simulate_norms(encoder: Encoder, group_norm: Callable[..., Tensor]) -> None:
    """Computes, in place, an encoder's GroupNorms in another way."""

    def instead(module: GroupNormSiLU, inputs: tuple[Tensor], _: Tensor) -> Tensor:
        values = group_norm(inputs[0], module.weight, module.bias, module.num_groups, module.eps)
        return F.silu(values)

    for module in encoder.modules():
        if isinstance(module, GroupNormSiLU):
            module.register_forward_hook(instead)


def simulate_tf32(encoder: Encoder) -> None:
    """Changes each conv in place to round its inputs; its output stays float32."""
    for module in encoder.modules():
        if isinstance(module, CausalConv3d | SameConv2d):
            _round_weights(module, to_tf32)
            module.register_forward_pre_hook(partial(_round_input, to_tf32))


def simulate_half(encoder: Encoder, compute: Rounding, residual: Rounding) -> None:
    """Rounds, in place, where `set_precision` of the family sets half types.

    Args:
        encoder: A float32 encoder.
        compute: Rounds the convs' weights, inputs and results.
        residual: Rounds the sum that runs through all residual blocks.
    """
    for name, module in encoder.named_modules():
        if isinstance(module, CausalConv3d | SameConv2d) and name != "conv_out":
            _round_weights(module, compute)
            module.register_forward_pre_hook(partial(_round_input, compute))
            module.register_forward_hook(partial(_round_output, compute))
        elif isinstance(module, GroupNormSiLU):
            # A norm's result is of its input's type; after the first conv of a block that is half.
            rounding = compute if name.endswith(".norm2") else residual
            module.register_forward_hook(partial(_round_output, rounding))
        elif isinstance(module, ResidualBlock):
            module.register_forward_hook(partial(_round_output, residual))


def _round_weights(module: nn.Module, rounding: Rounding) -> None:
    for parameter in module.parameters():
        parameter.data = rounding(parameter.data)


def _round_input(rounding: Rounding, _: nn.Module, inputs: tuple[Tensor]) -> Tensor:
    return rounding(inputs[0])


def _round_output(
    rounding: Rounding, _: nn.Module, inputs: tuple[Tensor], output: Tensor
) -> Tensor:
    del inputs
    return rounding(output)


# From the most precise to the least; each changes a float32 encoder in place.
RUNGS: dict[str, Callable[[Encoder], object]] = {
    "fp32, accurate GroupNorm": lambda encoder: encoder,
    "fp32, torch's channels-last GroupNorm": partial(
        simulate_norms, group_norm=channels_last_group_norm
    ),
    "fp32, naive GroupNorm": partial(simulate_norms, group_norm=naive_group_norm),
    "TF32": simulate_tf32,
    "fp16, residual fp32": partial(simulate_half, compute=to_fp16, residual=unrounded),
    "fp16": partial(simulate_half, compute=to_fp16, residual=to_fp16),
    "bf16": partial(simulate_half, compute=to_bf16, residual=to_bf16),
}
