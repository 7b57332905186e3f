"""The residual blocks of one level, of encoder and decoder alike."""

from __future__ import annotations

from torch import nn

from magvit_export.families.magvit.config import TokenizerConfig
from magvit_export.layers.residual_block import ResidualBlock


def residual_blocks(config: TokenizerConfig, c_in: int, c_out: int) -> nn.ModuleList:
    """The blocks of one level, or of the middle; the first changes the channels."""
    return nn.ModuleList(
        ResidualBlock(config.dims, c_in if i == 0 else c_out, c_out)
        for i in range(config.num_res_blocks)
    )
