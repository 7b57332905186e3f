"""The encoder: normalised frames to latents.

Architecture as released in Open-MAGVIT2 (Luo et al., "Open-MAGVIT2: An Open-Source Project Toward
Democratizing Auto-regressive Visual Generation", 2024), written from its description.
"""

from __future__ import annotations

from torch import Tensor, nn

from magvit_export.families.magvit.blocks import residual_blocks
from magvit_export.families.magvit.config import TokenizerConfig
from magvit_export.layers.convs import conv
from magvit_export.layers.group_norm import GroupNormSiLU


class Level(nn.Module):
    """Residual blocks at one resolution, then a strided conv (except at the last level)."""

    def __init__(
        self, config: TokenizerConfig, c_in: int, c_out: int, stride: tuple[int, ...] | None
    ) -> None:
        super().__init__()
        self.block = residual_blocks(config, c_in, c_out)
        self.downsample = (
            None if stride is None else conv(config.dims, c_out, c_out, stride=stride, bias=True)
        )

    def forward(self, x: Tensor) -> Tensor:
        """[N, c_in, T, H, W] -> [N, c_out, ceil(T/s), ceil(H/s), ceil(W/s)]."""
        for block in self.block:
            x = block(x)
        return x if self.downsample is None else self.downsample(x)


class Encoder(nn.Module):
    """Frames [N, 3, T, H, W] (or images [N, 3, H, W]) in -1..1 to latents [N, z, t, h, w].

    The convs are causal, but the encoder is not: GroupNorm sees all frames at once, so later frames
    change earlier tokens.
    """

    def __init__(self, config: TokenizerConfig) -> None:
        super().__init__()
        dims = config.dims
        self.conv_in = conv(dims, config.in_channels, config.ch)
        widths = [config.ch * mult for mult in (1, *config.ch_mult)]
        last = len(config.ch_mult) - 1
        self.down = nn.ModuleList(
            Level(
                config,
                widths[i],
                widths[i + 1],
                None if i == last else config.downsample_stride(i),
            )
            for i in range(last + 1)
        )
        self.mid_block = residual_blocks(config, widths[-1], widths[-1])
        self.norm_out = GroupNormSiLU(widths[-1])
        self.conv_out = conv(dims, widths[-1], config.z_channels, kernel=1, bias=True)

    def forward(self, x: Tensor) -> Tensor:
        """Latents before quantization."""
        latents: Tensor = self.conv_out(self.features(x))
        return latents

    def features(self, x: Tensor) -> Tensor:
        """The last feature map, which `conv_out` projects to latents."""
        x = self.conv_in(x)
        for level in self.down:
            x = level(x)
        for block in self.mid_block:
            x = block(x)
        features: Tensor = self.norm_out(x)
        return features
