"""The decoder: codebook rows after `post_quant_conv` to images. Source: as for the encoder."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from magvit_export.families.ibq.config import IbqConfig
from magvit_export.families.ibq.encoder import Middle
from magvit_export.layers.attention import AttentionBlock
from magvit_export.layers.convs import conv
from magvit_export.layers.group_norm import GroupNormSiLU
from magvit_export.layers.residual_block import ResidualBlock


class Upsampler(nn.Module):
    """Each pixel becomes four equal ones, then a 3x3 conv."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = conv(2, channels, channels, bias=True)

    def forward(self, x: Tensor) -> Tensor:
        """[N, C, H, W] -> [N, C, 2·H, 2·W]."""
        out: Tensor = self.conv(F.interpolate(x, scale_factor=2.0, mode="nearest"))
        return out


class Level(nn.Module):
    """Residual blocks at one resolution, each with attention or none; then an upsampler."""

    def __init__(
        self, blocks: int, c_in: int, c_out: int, *, has_attention: bool, is_last: bool
    ) -> None:
        super().__init__()
        self.block = nn.ModuleList(
            ResidualBlock(2, c_in if i == 0 else c_out, c_out, bias=True) for i in range(blocks)
        )
        self.attn = nn.ModuleList(
            AttentionBlock(c_out) for _ in range(blocks if has_attention else 0)
        )
        self.upsample = None if is_last else Upsampler(c_out)

    def forward(self, x: Tensor) -> Tensor:
        """[N, c_in, H, W] -> [N, c_out, 2·H, 2·W], or H and W at the last level."""
        for i, block in enumerate(self.block):
            x = block(x)
            if self.attn:
                x = self.attn[i](x)
        return x if self.upsample is None else self.upsample(x)


class Decoder(nn.Module):
    """Codes [N, z, h, w] to images [N, 3, H, W], roughly in -1..1, unclamped."""

    def __init__(self, config: IbqConfig) -> None:
        super().__init__()
        widths = [config.ch * mult for mult in (*config.ch_mult, config.ch_mult[-1])]
        self.conv_in = conv(2, config.z_channels, widths[-1], bias=True)
        self.mid = Middle(widths[-1])
        # In the checkpoint level 0 is the largest image, which comes last.
        self.up = nn.ModuleList(
            Level(
                config.num_res_blocks + 1,
                widths[i + 1],
                widths[i],
                has_attention=config.has_attention(i),
                is_last=i == 0,
            )
            for i in range(len(config.ch_mult))
        )
        self.norm_out = GroupNormSiLU(widths[0])
        self.conv_out = conv(2, widths[0], config.out_ch, bias=True)

    def forward(self, codes: Tensor) -> Tensor:
        """[N, z, h, w] -> [N, 3, H, W]."""
        x = self.mid(self.conv_in(codes))
        for level in reversed(self.up):
            x = level(x)
        out: Tensor = self.conv_out(self.norm_out(x))
        return out
