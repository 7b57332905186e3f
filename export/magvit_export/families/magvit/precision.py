"""Gives an encoder or decoder its precision: half weights and maps around islands of float32."""

from __future__ import annotations

import torch

from magvit_export.families.magvit.decoder import Decoder
from magvit_export.families.magvit.encoder import Encoder
from magvit_export.layers.convs import CausalConv3d, SameConv2d
from magvit_export.layers.residual_block import ResidualBlock


def set_precision(module: Encoder | Decoder, compute: torch.dtype, residual: torch.dtype) -> None:
    """Converts an encoder or decoder in place; what it then does is what an export of it says.

    Islands of float32: all that is done to pixels and codes, GroupNorm's statistics and affine, and
    the last conv; for an encoder the quantizer too, since all that happens there is a comparison of
    small numbers with 0.

    Args:
        module: The encoder or decoder.
        compute: Type of the convs' weights and inputs.
        residual: Type of the sum that runs through all residual blocks.
    """
    inside_blocks = {block.conv1 for block in module.modules() if isinstance(block, ResidualBlock)}
    for name, part in module.named_modules():
        if not isinstance(part, CausalConv3d | SameConv2d) or name == "conv_out":
            continue
        part.to(compute)
        # All convs whose result is, or is added to, the residual stream.
        if part not in inside_blocks:
            part.out_dtype = residual
