"""Lookup-free quantization: one sign per channel, and the integer whose bits are the signs.

Source: Yu et al., "Language Model Beats Diffusion: Tokenizer is Key to Visual Generation"
(MAGVIT-v2), 2023; bit order and tie rule as released in Open-MAGVIT2.
"""

from __future__ import annotations

import torch
from torch import Tensor

from magvit_export.onnx import operator_nodes


def quantize(latents: Tensor) -> Tensor:
    """Token ids of latents: bit i is `latents[:, i] > 0`, channel 0 least significant.

    Zero, negative zero and NaN give 0.

    Args:
        latents: [N, C, ...] with C in 1..31, any float type.

    Returns:
        int32 [N, ...], in 0 .. 2^C - 1.
    """
    if torch.onnx.is_in_onnx_export():
        return operator_nodes.lfq_node(latents)
    channels = latents.shape[1]
    weights = 2 ** torch.arange(channels, dtype=torch.int32, device=latents.device)
    weights = weights.view(channels, *[1] * (latents.ndim - 2))
    return torch.where(latents > 0, weights, 0).sum(dim=1, dtype=torch.int32)


def dequantize(ids: Tensor, channels: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """Codes of token ids: +1 where the bit is set, -1 where it is not.

    Args:
        ids: Integer [N, ...] in 0 .. 2^channels - 1.
        channels: Bits per token.
        dtype: Float type of the result.

    Returns:
        `dtype` [N, channels, ...], each exactly -1 or +1.
    """
    if torch.onnx.is_in_onnx_export():
        return operator_nodes.codes_node(ids, channels).to(dtype)
    shifts = torch.arange(channels, device=ids.device).view(channels, *[1] * (ids.ndim - 1))
    bits = (ids.unsqueeze(1) >> shifts) & 1
    return (2 * bits - 1).to(dtype)
