"""The encoder: normalised images to what `quant_conv` turns into latents.

Architecture of VQGAN (Esser et al., "Taming Transformers for High-Resolution Image Synthesis",
2021) as released with IBQ (Shi et al., "Taming Scalable Visual Tokenizer for Autoregressive Image
Generation", 2024), written anew from its description. Attribute names are the checkpoint's.
"""

from __future__ import annotations

from torch import Tensor, nn

from magvit_export.families.ibq.config import IbqConfig
from magvit_export.layers.attention import AttentionBlock
from magvit_export.layers.convs import HalvingConv2d, conv
from magvit_export.layers.group_norm import GroupNormSiLU
from magvit_export.layers.residual_block import ResidualBlock


class Level(nn.Module):
    """Residual blocks at one resolution, each with attention or none; then a halving conv."""

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
        self.downsample = None if is_last else HalvingConv2d(c_out)

    def forward(self, x: Tensor) -> Tensor:
        """[N, c_in, H, W] -> [N, c_out, floor(H/2), floor(W/2)], or H and W at the last level."""
        for i, block in enumerate(self.block):
            x = block(x)
            if self.attn:
                x = self.attn[i](x)
        return x if self.downsample is None else self.downsample(x)


class Middle(nn.Module):
    """Two residual blocks around attention."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.block_1 = ResidualBlock(2, channels, channels, bias=True)
        self.attn_1 = AttentionBlock(channels)
        self.block_2 = ResidualBlock(2, channels, channels, bias=True)

    def forward(self, x: Tensor) -> Tensor:
        """[N, C, H, W] -> the same."""
        out: Tensor = self.block_2(self.attn_1(self.block_1(x)))
        return out


class Encoder(nn.Module):
    """Images [N, 3, H, W] in -1..1 to [N, z, floor(H/16), floor(W/16)] (for five levels)."""

    def __init__(self, config: IbqConfig) -> None:
        super().__init__()
        self.conv_in = conv(2, config.in_channels, config.ch, bias=True)
        widths = [config.ch * mult for mult in (1, *config.ch_mult)]
        last = len(config.ch_mult) - 1
        self.down = nn.ModuleList(
            Level(
                config.num_res_blocks,
                widths[i],
                widths[i + 1],
                has_attention=config.has_attention(i),
                is_last=i == last,
            )
            for i in range(last + 1)
        )
        self.mid = Middle(widths[-1])
        self.norm_out = GroupNormSiLU(widths[-1])
        self.conv_out = conv(2, widths[-1], config.z_channels, bias=True)

    def forward(self, x: Tensor) -> Tensor:
        """What `quant_conv` reads."""
        out: Tensor = self.conv_out(self.features(x))
        return out

    def features(self, x: Tensor) -> Tensor:
        """The last feature map, which `conv_out` projects."""
        x = self.conv_in(x)
        for level in self.down:
            x = level(x)
        features: Tensor = self.norm_out(self.mid(x))
        return features
