"""CLIP's image encoder, of transformers, and what its graph computes.

Source: Radford et al., "Learning Transferable Visual Models From Natural Language Supervision",
2021; transformers' `CLIPVisionModelWithProjection`.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from magvit_export.families.clip.config import ClipConfig
from magvit_export.families.transformers_files import import_transformers
from magvit_export.layers import float32_islands
from magvit_export.layers.pixels import standardize_pixels


class ExportedFeatures(nn.Module):
    """What the graph computes: uint8 images in, features out.

    Args:
        model: transformers' `CLIPVisionModelWithProjection`, and its `processor`.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model: Any = model

    def forward(self, images: Tensor) -> tuple[Tensor]:
        """uint8 [N, H, W, 3] -> float32 [N, projection_dim]."""
        vision, p = self.model.vision_model, self.model.processor
        wide = vision.pre_layrnorm.weight.dtype
        pixels = standardize_pixels(images, wide, p.scale, p.mean, p.std)
        x = vision.pre_layrnorm(vision.embeddings(pixels))
        for layer in vision.encoder.layers:
            x = layer(x, attention_mask=None)
        return (self.model.visual_projection(vision.post_layernorm(x[:, 0])),)


def set_precision(module: nn.Module, compute: torch.dtype, residual: torch.dtype) -> None:
    """Converts the graph's module in place; see `float32_islands.set_precision`."""
    assert isinstance(module, ExportedFeatures)
    vision = module.model.vision_model
    float32_islands.set_precision(
        vision.encoder.layers,
        vision.embeddings.patch_embedding,
        [vision.pre_layrnorm],
        compute,
        residual,
    )


def empty_model(config: ClipConfig) -> nn.Module:
    """An empty `CLIPVisionModelWithProjection`: parameters have shapes but no memory yet.

    Raises:
        MissingPackageError: transformers isn't installed.
    """
    transformers = import_transformers()
    transformers.AttentionInterface.register(float32_islands.ATTENTION, float32_islands.attention)
    values = {name: getattr(config, name) for name in config.__struct_fields__}
    processor = values.pop("processor")
    with torch.device("meta"):
        model = transformers.CLIPVisionModelWithProjection(
            transformers.CLIPVisionConfig(**values, attn_implementation=float32_islands.ATTENTION)
        )
    # No weight, so that no checkpoint has it.
    embeddings = model.vision_model.embeddings
    embeddings.position_ids = torch.arange(embeddings.num_positions).expand((1, -1))
    model.processor = processor
    with torch.device("meta"):
        return float32_islands.with_islands(model).eval()
