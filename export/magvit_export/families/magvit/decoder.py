"""The decoder: codes to frames. Source: as for the encoder."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from magvit_export.families.magvit.blocks import residual_blocks
from magvit_export.families.magvit.config import TokenizerConfig
from magvit_export.layers.convs import conv
from magvit_export.layers.group_norm import GroupNormSiLU, group_norm
from magvit_export.layers.norm_constants import NORM_EPSILON, NORM_GROUPS
from magvit_export.onnx import operator_nodes

STATISTICS_EPSILON = 1e-6


class AdaptiveGroupNorm(nn.Module):
    """GroupNorm whose scale and shift come from the spread and mean of the clip's own codes."""

    def __init__(self, z_channels: int, channels: int) -> None:
        super().__init__()
        self.gamma = nn.Linear(z_channels, channels)
        self.beta = nn.Linear(z_channels, channels)

    def forward(self, x: Tensor, spread: Tensor, mean: Tensor) -> Tensor:
        """X [N, C, ...] normalised, scaled by the spread [N, z] and shifted by the mean [N, z].

        It computes in the type of its own weights, as `GroupNormSiLU` does.
        """
        scale = self.gamma(spread)
        shift = self.beta(mean)
        if torch.onnx.is_in_onnx_export():
            return operator_nodes.group_norm_node(
                x, scale, shift, NORM_GROUPS, NORM_EPSILON, name="GroupNorm"
            )
        per_channel = (*scale.shape, *[1] * (x.ndim - 2))
        normalized = group_norm(x.to(scale.dtype), None, None)
        adapted = torch.addcmul(shift.view(per_channel), normalized, scale.view(per_channel))
        return adapted.to(x.dtype)


def code_statistics(codes: Tensor) -> tuple[Tensor, Tensor]:
    """Spread, √(unbiased variance + ε), and mean of each channel: [N, z, ...] -> [N, z] each.

    The variance of a single position is 0, where the reference's is NaN.
    """
    if torch.onnx.is_in_onnx_export():
        return operator_nodes.code_statistics_node(codes, STATISTICS_EPSILON)
    flat = codes.flatten(2)
    variance = flat.var(dim=2, correction=min(1, flat.shape[2] - 1))
    return (variance + STATISTICS_EPSILON).sqrt(), flat.mean(dim=2)


class Upsampler(nn.Module):
    """A conv to a block of positions in the channels, then depth to space."""

    def __init__(self, config: TokenizerConfig, channels: int, block: tuple[int, ...]) -> None:
        super().__init__()
        self.block = block
        self.conv1 = conv(config.dims, channels, channels * math.prod(block), bias=True)

    def forward(self, x: Tensor) -> Tensor:
        """[N, C, T, H, W] -> [N, C, (T-1)·tb+1, H·hb, W·wb].

        Frame 0 stands for a single frame of the clip, so of what it becomes the first is kept.
        """
        x = self.conv1(x)
        return depth_to_space(x, self.block) if len(self.block) == 2 else self._causal(x)

    def _causal(self, x: Tensor) -> Tensor:
        frames_a_token = self.block[0]
        if torch.onnx.is_in_onnx_export():
            t, h, w = (size * b for size, b in zip(x.shape[2:], self.block, strict=True))
            sizes = (t - frames_a_token + 1, h, w)
            return operator_nodes.causal_depth_to_space_node(x, self.block, sizes)
        x = depth_to_space(x, self.block)
        return torch.cat((x[:, :, :1], x[:, :, frames_a_token:]), dim=2)


def depth_to_space(x: Tensor, block: tuple[int, ...]) -> Tensor:
    """[N, prod(block)·C, *sizes] -> [N, C, *(sizes·block)]; channels are laid out (*block, C)."""
    dims = len(block)
    sizes = x.shape[2:]
    if dims == 2 and torch.onnx.is_in_onnx_export():
        return operator_nodes.depth_to_space_node(x, block[0])
    x = x.view(x.shape[0], *block, -1, *sizes)
    order = [0, dims + 1]
    for axis in range(dims):
        order += [dims + 2 + axis, 1 + axis]
    return x.permute(order).reshape(
        x.shape[0], x.shape[dims + 1], *(s * b for s, b in zip(sizes, block, strict=True))
    )


class UpLevel(nn.Module):
    """Adapted residual blocks at one resolution; the decoder upsamples after them."""

    def __init__(
        self, config: TokenizerConfig, c_in: int, c_out: int, block: tuple[int, ...] | None
    ) -> None:
        super().__init__()
        self.block = residual_blocks(config, c_in, c_out)
        self.upsample = None if block is None else Upsampler(config, c_out, block)

    def forward(self, x: Tensor) -> Tensor:
        """[N, c_in, t, h, w] -> [N, c_out, T, H, W], one level finer unless this is the last."""
        for block in self.block:
            x = block(x)
        out: Tensor = x if self.upsample is None else self.upsample(x)
        return out


class Decoder(nn.Module):
    """Codes [N, z, t, h, w] of ±1 to frames [N, 3, 4(t-1)+1, 8h, 8w], roughly in -1..1."""

    def __init__(self, config: TokenizerConfig) -> None:
        super().__init__()
        dims = config.dims
        widths = [config.ch * mult for mult in config.ch_mult]
        self.conv_in = conv(dims, config.z_channels, widths[-1], bias=True)
        self.mid_block = residual_blocks(config, widths[-1], widths[-1])
        entering = [*widths[1:], widths[-1]]
        self.up = nn.ModuleList(
            UpLevel(
                config,
                entering[i],
                widths[i],
                None if i == 0 else config.downsample_stride(i - 1),
            )
            for i in range(len(widths))
        )
        self.adaptive = nn.ModuleList(
            AdaptiveGroupNorm(config.z_channels, channels) for channels in entering
        )
        self.norm_out = GroupNormSiLU(widths[0])
        self.conv_out = conv(dims, widths[0], config.out_ch, bias=True)

    def forward(self, codes: Tensor) -> Tensor:
        """Frames of codes, unclamped."""
        x = self.conv_in(codes)
        for block in self.mid_block:
            x = block(x)
        spread, mean = code_statistics(codes)
        for i in reversed(range(len(self.up))):
            x = self.up[i](self.adaptive[i](x, spread, mean))
        frames: Tensor = self.conv_out(self.norm_out(x))
        return frames
