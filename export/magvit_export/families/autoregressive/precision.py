"""Gives a transformer half weights, or weights of 8 bits."""

from __future__ import annotations

import torch
from torch import nn

from magvit_export.families.autoregressive.blocks import Linear
from magvit_export.families.autoregressive.transformer import Transformer
from magvit_export.layers.eight_bit_linear import EightBitLinear
from magvit_export.mapped_pages import forget_pages


def set_precision(transformer: Transformer, compute: torch.dtype, residual: torch.dtype) -> None:
    """Converts a transformer in place, one weight after the other.

    Islands of float32: norms, the rotation of queries and keys, and attention's softmax.

    Args:
        transformer: The transformer.
        compute: Type of embeddings, of the matrices and of their inputs.
        residual: Type of the sum that runs through all blocks.
    """
    for part in transformer.modules():
        if isinstance(part, Linear | nn.Embedding):
            before = part.weight.detach()
            part.to(compute)
            if part.weight.dtype != before.dtype:
                forget_pages(before)
    transformer.stream_dtype = residual


def quantize_weights(transformer: Transformer) -> None:
    """Replaces every matrix by one of 8 bits, one after the other; embeddings stay as they are."""
    for parent in list(transformer.modules()):
        for name, part in list(parent.named_children()):
            if isinstance(part, Linear):
                setattr(parent, name, EightBitLinear(part.weight))
                forget_pages(part.weight.detach())
