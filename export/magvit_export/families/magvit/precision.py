"""Gives an encoder its precision: half weights and activations around islands of float32."""

from __future__ import annotations

import torch

from magvit_export.families.magvit.encoder import Encoder
from magvit_export.layers.convs import CausalConv3d, SameConv2d


def set_precision(encoder: Encoder, compute: torch.dtype, residual: torch.dtype) -> None:
    """Converts an encoder in place; what it then does is what an export of it says.

    Islands of float32: normalisation of the pixels, GroupNorm's statistics and affine, the last
    conv, and the quantizer, since all that happens there is a comparison of small numbers with 0.

    Args:
        encoder: The encoder.
        compute: Type of the convs' weights and inputs.
        residual: Type of the sum that runs through all residual blocks.
    """
    for name, module in encoder.named_modules():
        if not isinstance(module, CausalConv3d | SameConv2d) or name == "conv_out":
            continue
        module.to(compute)
        # All convs whose result is, or is added to, the residual stream.
        if not name.endswith(".conv1"):
            module.out_dtype = residual
