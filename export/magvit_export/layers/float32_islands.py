"""Islands of float32 in transformers' models: LayerNorm, and attention's softmax."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

ATTENTION = "magvit_float32_softmax"  # The name of `attention` in transformers' registry.


class Float32LayerNorm(nn.LayerNorm):
    """LayerNorm that computes in the type of its own weights, which stay float32 in half precision.

    Attributes:
        out_dtype: Type of the result; None is that of the weights.
    """

    out_dtype: torch.dtype | None = None

    def forward(self, x: Tensor) -> Tensor:
        """Normalises over the last axis, scales, shifts."""
        wide = x.to(self.weight.dtype)
        normalized = F.layer_norm(wide, self.normalized_shape, self.weight, self.bias, self.eps)
        return normalized if self.out_dtype is None else normalized.to(self.out_dtype)


def attention(
    _module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float,
    dropout: float = 0.0,
    **_: Any,
) -> tuple[Tensor, Tensor]:
    """Attention as transformers' models call it, its softmax in float32 at least.

    Queries are scaled before the product, which then overflows float16 later.

    Args:
        _module: The layer that calls.
        query: [N, heads, positions, width].
        key: As query.
        value: As query.
        attention_mask: None.
        scaling: Of the products.
        dropout: 0.

    Returns:
        [N, positions, heads, width], and the weights.
    """
    assert attention_mask is None
    assert dropout == 0
    scores = (query * scaling) @ key.transpose(2, 3)
    wide = torch.promote_types(scores.dtype, torch.float32)
    weights = scores.to(wide).softmax(dim=-1).to(value.dtype)
    return (weights @ value).transpose(1, 2).contiguous(), weights


def with_islands(model: nn.Module) -> nn.Module:
    """A model of transformers, whose every LayerNorm becomes a `Float32LayerNorm`, in place."""
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            if type(child) is nn.LayerNorm:
                island = Float32LayerNorm(child.normalized_shape, child.eps)
                setattr(parent, name, island)
    return model


def set_precision(
    layers: nn.ModuleList,
    patches: nn.Module,
    residual_norms: list[Float32LayerNorm],
    compute: torch.dtype,
    residual: torch.dtype,
) -> None:
    """Converts a vision transformer in place; what it then does is what an export of it says.

    Islands of float32: LayerNorms, softmax, the sum over the layers where `residual` is float32,
    and all that comes after the last layer.

    Args:
        layers: The transformer's layers.
        patches: The conv that makes patches of pixels.
        residual_norms: LayerNorms whose result is the sum that runs through all layers.
        compute: Type of the matrix products' weights and inputs.
        residual: Type of that sum.
    """
    patches.to(compute)
    for module in layers.modules():
        if isinstance(module, Float32LayerNorm):
            module.out_dtype = compute
        elif isinstance(module, nn.Linear):
            module.to(compute)
    for norm in residual_norms:
        norm.out_dtype = residual
