"""GroupNorm that is accurate in float32 in every memory layout, alone and with SiLU."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from magvit_export.layers.norm_constants import NORM_EPSILON, NORM_GROUPS
from magvit_export.onnx import operator_nodes


def group_norm(
    x: Tensor, weight: Tensor | None, bias: Tensor | None, epsilon: float = NORM_EPSILON
) -> Tensor:
    """GroupNorm over (C/32, T, H, W) whose result does not depend on x's memory layout.

    Torch's channels-last kernel sums a million elements naively in float32 (error 5e-3 on flat
    backgrounds); its contiguous kernel is accurate to 1e-6. So the input is made contiguous.
    """
    return F.group_norm(x.contiguous(), NORM_GROUPS, weight, bias, epsilon)


class GroupNorm(nn.GroupNorm):
    """GroupNorm (32 groups): [N, C, ...] -> [N, C, ...], of the type of the input.

    It computes in the type of its own weights, which stay float32 in half-precision models: in
    float16 the sum of a clip's squares overflows.
    """

    def __init__(self, channels: int) -> None:
        super().__init__(NORM_GROUPS, channels, NORM_EPSILON)

    def forward(self, x: Tensor) -> Tensor:
        """Normalises over (C/32, T, H, W) together, scales, shifts."""
        if torch.onnx.is_in_onnx_export():
            return operator_nodes.group_norm_node(
                x, self.weight, self.bias, NORM_GROUPS, self.eps, name="GroupNorm"
            )
        return group_norm(x.to(self.weight.dtype), self.weight, self.bias, self.eps).to(x.dtype)


class GroupNormSiLU(nn.GroupNorm):
    """GroupNorm, then SiLU; types as for `GroupNorm`."""

    def __init__(self, channels: int) -> None:
        super().__init__(NORM_GROUPS, channels, NORM_EPSILON)

    def forward(self, x: Tensor) -> Tensor:
        """Normalises over (C/32, T, H, W) together, scales, shifts, applies x·sigmoid(x)."""
        if torch.onnx.is_in_onnx_export():
            return operator_nodes.group_norm_node(
                x, self.weight, self.bias, NORM_GROUPS, self.eps, name="GroupNormSiLU"
            )
        values = group_norm(x.to(self.weight.dtype), self.weight, self.bias, self.eps)
        return F.silu(values).to(x.dtype)
