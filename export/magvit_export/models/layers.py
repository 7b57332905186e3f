"""The layers that encoder and decoder share, in two and three dimensions.

Attribute names are the checkpoint's, so that a state dict loads without renaming.
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from magvit_export.config import NORM_GROUPS, TokenizerConfig
from magvit_export.models import custom_ops

NORM_EPSILON = 1e-6


class CausalConv3d(nn.Module):
    """A 3-D conv that sees no later frame: all of its time padding is in front, and is zero.

    It computes in the type of its weights; `out_dtype` is the type of its result where that is
    another.
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
    """A 2-D conv with zero padding on all sides; types as for `CausalConv3d`."""

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


def group_norm(
    x: Tensor, weight: Tensor | None, bias: Tensor | None, epsilon: float = NORM_EPSILON
) -> Tensor:
    """GroupNorm over (C/32, T, H, W) whose result does not depend on x's memory layout.

    Torch's channels-last kernel sums a million elements naively in float32 (error 5e-3 on flat
    backgrounds); its contiguous kernel is accurate to 1e-6. So the input is made contiguous.
    """
    return F.group_norm(x.contiguous(), NORM_GROUPS, weight, bias, epsilon)


class GroupNormSiLU(nn.GroupNorm):
    """GroupNorm (32 groups), then SiLU: [N, C, ...] -> [N, C, ...], of the type of the input.

    It computes in the type of its own weights, which stay float32 in half-precision models: in
    float16 the sum of a clip's squares overflows.
    """

    def __init__(self, channels: int) -> None:
        super().__init__(NORM_GROUPS, channels, NORM_EPSILON)

    def forward(self, x: Tensor) -> Tensor:
        """Normalises over (C/32, T, H, W) together, scales, shifts, applies x·sigmoid(x)."""
        if torch.onnx.is_in_onnx_export():
            return custom_ops.group_norm_node(
                x, self.weight, self.bias, NORM_GROUPS, self.eps, name="GroupNormSiLU"
            )
        values = group_norm(x.to(self.weight.dtype), self.weight, self.bias, self.eps)
        return F.silu(values).to(x.dtype)


class ResidualBlock(nn.Module):
    """Two convs, each behind GroupNorm and SiLU, added to the input."""

    def __init__(self, dims: Literal[2, 3], c_in: int, c_out: int) -> None:
        super().__init__()
        self.norm1 = GroupNormSiLU(c_in)
        self.conv1 = conv(dims, c_in, c_out)
        self.norm2 = GroupNormSiLU(c_out)
        self.conv2 = conv(dims, c_out, c_out)
        self.nin_shortcut = conv(dims, c_in, c_out, kernel=1) if c_in != c_out else None

    def forward(self, x: Tensor) -> Tensor:
        """[N, c_in, ...] -> [N, c_out, ...]."""
        hidden: Tensor = self.conv2(self.norm2(self.conv1(self.norm1(x))))
        return hidden + (x if self.nin_shortcut is None else self.nin_shortcut(x))


def residual_blocks(config: TokenizerConfig, c_in: int, c_out: int) -> nn.ModuleList:
    """The blocks of one level, or of the middle; the first changes the channels."""
    return nn.ModuleList(
        ResidualBlock(config.dims, c_in if i == 0 else c_out, c_out)
        for i in range(config.num_res_blocks)
    )
