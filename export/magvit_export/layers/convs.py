"""Convs in two and three dimensions that compute in the type of their weights.

Attribute names are the checkpoint's, so that a state dict loads without renaming.
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class CausalConv3d(nn.Module):
    """A 3-D conv that sees no later frame: all of its time padding is zeros before the first frame.

    It computes in the type of its weights; `out_dtype` is the type of its result if that differs.
    """

    out_dtype: torch.dtype | None = None

    def __init__(
        self, c_in: int, c_out: int, kernel: int, stride: tuple[int, int, int], bias: bool
    ) -> None:
        super().__init__()
        self.conv_1 = nn.Conv3d(c_in, c_out, kernel, stride, bias=bias)
        side = kernel // 2
        self.padding = (side, side, side, side, kernel - 1, 0)

    def forward(self, x: Tensor) -> Tensor:
        """[N, c_in, T, H, W] -> [N, c_out, ceil(T/s), ceil(H/s), ceil(W/s)]."""
        x = x.to(self.conv_1.weight.dtype)
        if any(self.padding):
            x = F.pad(x, self.padding)
        out: Tensor = self.conv_1(x)
        return out.to(self.out_dtype or out.dtype)


class SameConv2d(nn.Conv2d):
    """A 2-D conv with the same zero padding, if any, on all sides; types as for `CausalConv3d`."""

    out_dtype: torch.dtype | None = None

    def forward(self, x: Tensor) -> Tensor:
        """[N, c_in, H, W] -> [N, c_out, ceil(H/s), ceil(W/s)]."""
        out = super().forward(x.to(self.weight.dtype))
        return out.to(self.out_dtype or out.dtype)


def conv(
    dims: Literal[2, 3],
    c_in: int,
    c_out: int,
    *,
    kernel: int = 3,
    stride: tuple[int, ...] = (),
    bias: bool = False,
) -> nn.Module:
    """The family's conv: "same" zero padding in space, causal in time."""
    stride = stride or (1,) * dims
    if dims == 3:
        return CausalConv3d(c_in, c_out, kernel, (stride[0], stride[1], stride[2]), bias)
    return SameConv2d(c_in, c_out, kernel, (stride[0], stride[1]), kernel // 2, bias=bias)


class HalvingConv2d(nn.Module):
    """A 3x3 conv of stride 2 whose zero padding is at the bottom and right alone.

    Attribute names are those of VQGAN's checkpoints.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = SameConv2d(channels, channels, 3, 2)

    def forward(self, x: Tensor) -> Tensor:
        """[N, C, H, W] -> [N, C, floor(H/2), floor(W/2)]."""
        # In its own type first, so that the pad and the conv are one node of the graph.
        x = x.to(self.conv.weight.dtype)
        out: Tensor = self.conv(F.pad(x, (0, 1, 0, 1)))
        return out
