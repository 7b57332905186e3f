"""Gives an encoder its precision: half weights and activations around islands of float32."""

from __future__ import annotations

import torch

from magvit_export.families.ibq.tokenizer import ExportedEncoder
from magvit_export.layers.convs import SameConv2d

# Convs whose result isn't, nor is added to, the residual stream.
_INNER = (".conv1", ".q", ".k", ".v")


def set_precision(encoder: ExportedEncoder, compute: torch.dtype, residual: torch.dtype) -> None:
    """Converts an encoder in place; what it then does is what an export of it says.

    Islands of float32: normalisation of the pixels, GroupNorm's statistics and affine, attention
    between its convs, the last conv, `quant_conv`, and the search of the codebook.

    Args:
        encoder: The encoder.
        compute: Type of the convs' weights and inputs.
        residual: Type of the sum that runs through all blocks.
    """
    for name, module in encoder.encoder.named_modules():
        if not isinstance(module, SameConv2d) or name == "conv_out":
            continue
        module.to(compute)
        if not name.endswith(_INNER):
            module.out_dtype = residual
