"""VideoMAE's encoder, of transformers, and what its graph computes.

Source: Tong et al., "VideoMAE: Masked Autoencoders are Data-Efficient Learners for Self-Supervised
Video Pre-Training", 2022; transformers' `VideoMAEModel`.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from magvit_export.families.transformers_files import import_transformers
from magvit_export.families.videomae.config import VideoMaeConfig
from magvit_export.layers import float32_islands
from magvit_export.layers.pixels import standardize_pixels


class ExportedFeatures(nn.Module):
    """What the graph computes: uint8 clips in; features, and their mean over a clip's patches, out.

    Args:
        model: transformers' `VideoMAEModel`, and its `processor`.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model: Any = model
        self.residual: torch.dtype | None = None

    def forward(self, clips: Tensor) -> tuple[Tensor, Tensor]:
        """uint8 [N, T, H, W, 3] -> (float32 [N, positions, width], [N, width])."""
        model = self.model
        patches = model.embeddings.patch_embeddings.projection.weight.dtype
        wide = model.encoder.layer[0].layernorm_before.weight.dtype
        p = model.processor
        pixels = standardize_pixels(clips, wide, p.scale, p.mean, p.std)
        # [N, 3, T, H, W], which transformers takes with time before the channels.
        x = model.embeddings(pixels.to(patches).transpose(1, 2), None)
        x = x if self.residual is None else x.to(self.residual)
        for layer in model.encoder.layer:
            x = layer(x)
        features = x.to(wide) if model.layernorm is None else model.layernorm(x)
        return features, features.mean(dim=1)


def set_precision(module: nn.Module, compute: torch.dtype, residual: torch.dtype) -> None:
    """Converts the graph's module in place; see `float32_islands.set_precision`."""
    assert isinstance(module, ExportedFeatures)
    patches = module.model.embeddings.patch_embeddings
    float32_islands.set_precision(module.model.encoder.layer, patches, [], compute, residual)
    module.residual = residual


def empty_model(config: VideoMaeConfig) -> nn.Module:
    """An empty `VideoMAEModel`: parameters have shapes but no memory yet.

    Raises:
        MissingPackageError: transformers isn't installed.
    """
    transformers = import_transformers()
    transformers.AttentionInterface.register(float32_islands.ATTENTION, float32_islands.attention)
    values = {name: getattr(config, name) for name in config.__struct_fields__}
    processor = values.pop("processor")
    with torch.device("meta"):
        model = transformers.VideoMAEModel(
            transformers.VideoMAEConfig(**values, attn_implementation=float32_islands.ATTENTION)
        )
        model.processor = processor
        return float32_islands.with_islands(model).eval()
