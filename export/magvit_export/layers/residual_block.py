"""The residual block of MAGVIT2's and VQGAN's encoders and decoders.

Attribute names are the checkpoint's, so that a state dict loads without renaming.
"""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn

from magvit_export.layers.convs import conv
from magvit_export.layers.group_norm import GroupNormSiLU


class ResidualBlock(nn.Module):
    """Two convs, each after GroupNorm and SiLU, added to the input.

    Args:
        dims: 3 (time, height, width) or 2 (height, width).
        c_in, c_out: Channels.
        bias: Whether the convs have one.
    """

    def __init__(self, dims: Literal[2, 3], c_in: int, c_out: int, *, bias: bool = False) -> None:
        super().__init__()
        self.norm1 = GroupNormSiLU(c_in)
        self.conv1 = conv(dims, c_in, c_out, bias=bias)
        self.norm2 = GroupNormSiLU(c_out)
        self.conv2 = conv(dims, c_out, c_out, bias=bias)
        self.nin_shortcut = conv(dims, c_in, c_out, kernel=1, bias=bias) if c_in != c_out else None

    def forward(self, x: Tensor) -> Tensor:
        """[N, c_in, ...] -> [N, c_out, ...]."""
        hidden: Tensor = self.conv2(self.norm2(self.conv1(self.norm1(x))))
        return hidden + (x if self.nin_shortcut is None else self.nin_shortcut(x))
