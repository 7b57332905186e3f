"""Gives an encoder or decoder its precision: half weights and maps around islands of float32."""

from __future__ import annotations

import torch

from magvit_export.families.ibq.decoder import Decoder
from magvit_export.families.ibq.encoder import Encoder
from magvit_export.layers.convs import SameConv2d

# Convs whose result isn't, nor is added to, the residual stream.
_INNER = (".conv1", ".q", ".k", ".v")


def set_precision(side: Encoder | Decoder, compute: torch.dtype, residual: torch.dtype) -> None:
    """Converts an encoder or decoder in place; what it then does is what an export of it says.

    Islands of float32: all that is done to pixels, GroupNorm's statistics and affine, attention
    between its convs, the last conv, `quant_conv` and `post_quant_conv`, and the codebook.

    Args:
        side: The encoder or decoder.
        compute: Type of the convs' weights and inputs.
        residual: Type of the sum that runs through all blocks.
    """
    for name, module in side.named_modules():
        if not isinstance(module, SameConv2d) or name == "conv_out":
            continue
        module.to(compute)
        if not name.endswith(_INNER):
            module.out_dtype = residual
