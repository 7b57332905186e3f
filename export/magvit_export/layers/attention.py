"""Attention of every position to every other, with one head."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from magvit_export.layers.convs import conv
from magvit_export.layers.group_norm import GroupNorm
from magvit_export.onnx import operator_nodes


class AttentionBlock(nn.Module):
    """GroupNorm, attention over all positions of an image, a 1x1 conv; added to the input.

    Attribute names are the checkpoint's. Source: VQGAN (Esser et al., "Taming Transformers for
    High-Resolution Image Synthesis", 2021).
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = GroupNorm(channels)
        self.q = conv(2, channels, channels, kernel=1, bias=True)
        self.k = conv(2, channels, channels, kernel=1, bias=True)
        self.v = conv(2, channels, channels, kernel=1, bias=True)
        self.proj_out = conv(2, channels, channels, kernel=1, bias=True)

    def forward(self, x: Tensor) -> Tensor:
        """[N, C, H, W] -> the same."""
        normalized = self.norm(x)
        q, k, v = self.q(normalized), self.k(normalized), self.v(normalized)
        out: Tensor = self.proj_out(spatial_attention(q, k, v))
        return x + out


def spatial_attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Of each position p: the sum of v over all positions, by softmax(q_p·k / √C).

    It computes in float32 at least, whatever the type of its inputs: a few hundred positions cost
    next to nothing, and the products of half-precision channels overflow.

    Args:
        q: [N, C, H, W].
        k: As q.
        v: As q.

    Returns:
        [N, C, H, W], of the type of `v`.
    """
    if torch.onnx.is_in_onnx_export():
        return operator_nodes.spatial_attention_node(q, k, v)
    dtype = torch.promote_types(q.dtype, torch.float32)
    queries, keys, values = (x.to(dtype).flatten(2) for x in (q, k, v))
    scores = queries.transpose(1, 2) @ keys * (q.shape[1] ** -0.5)
    mixed: Tensor = values @ scores.softmax(dim=-1).transpose(1, 2)
    return mixed.reshape(q.shape).to(v.dtype)
