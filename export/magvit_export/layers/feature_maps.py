"""The last feature map of a tokenizer's encoder, as the graph of features gives it."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from magvit_export.layers.pixels import normalize_pixels


class ExportedFeatures(nn.Module):
    """What the graph computes: uint8 frames in; features, and their mean over all positions, out.

    Args:
        model: A tokenizer, whose `encoder` has `features`: what it projects to latents.
    """

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.encoder = model.encoder

    def forward(self, frames: Tensor) -> tuple[Tensor, Tensor]:
        """uint8 [N, T, H, W, 3] (or [N, H, W, 3]) -> (float32 [N, C, t, h, w], [N, C])."""
        dtype = self.encoder.norm_out.weight.dtype  # float32 in half-precision models too
        features = self.encoder.features(normalize_pixels(frames, dtype)).to(dtype)
        return features, features.flatten(2).mean(dim=2)
