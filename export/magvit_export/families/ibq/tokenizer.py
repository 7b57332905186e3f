"""The whole tokenizer, and its two sides as the exported graphs see them."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from magvit_export.families.ibq.config import IbqConfig
from magvit_export.families.ibq.decoder import Decoder
from magvit_export.families.ibq.encoder import Encoder
from magvit_export.layers.codebook import Codebook
from magvit_export.layers.convs import conv
from magvit_export.layers.pixels import normalize_pixels, to_bytes


class IbqTokenizer(nn.Module):
    """Encoder, codebook and decoder of one configuration.

    Args:
        config: Its architecture.
    """

    def __init__(self, config: IbqConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = Encoder(config)
        self.decoder = Decoder(config)
        self.quantize = Codebook(config.n_embed, config.embed_dim)
        self.quant_conv = conv(2, config.z_channels, config.embed_dim, kernel=1, bias=True)
        self.post_quant_conv = conv(2, config.embed_dim, config.z_channels, kernel=1, bias=True)

    def latents(self, images: Tensor) -> Tensor:
        """uint8 images [N, H, W, 3], RGB 0..255 -> [N, embed_dim, h, w]."""
        return ExportedEncoder(self).latents(images)

    def decode(self, ids: Tensor) -> Tensor:
        """Ids [N, h, w] -> float images [N, 3, H, W], roughly in -1..1, unclamped."""
        return ExportedDecoder(self).images(ids)


class ExportedEncoder(nn.Module):
    """What the encoder's ONNX graph computes: uint8 images in; ids, margins and latents out."""

    def __init__(self, model: IbqTokenizer) -> None:
        super().__init__()
        self.encoder = model.encoder
        self.quant_conv = model.quant_conv
        self.quantize = model.quantize

    def latents(self, images: Tensor) -> Tensor:
        """uint8 images [N, H, W, 3] -> [N, embed_dim, h, w]."""
        dtype = self.encoder.norm_out.weight.dtype  # float32 in half-precision models too
        out: Tensor = self.quant_conv(self.encoder(normalize_pixels(images, dtype)))
        return out

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """uint8 [N, H, W, 3] -> (int32 ids and margins [N, h, w], latents [N, embed_dim, h, w])."""
        latents = self.latents(images)
        ids, margins = self.quantize(latents)
        return ids, margins, latents


class ExportedDecoder(nn.Module):
    """What the decoder's ONNX graph computes: ids in, uint8 images out."""

    def __init__(self, model: IbqTokenizer) -> None:
        super().__init__()
        self.quantize = model.quantize
        self.post_quant_conv = model.post_quant_conv
        self.decoder = model.decoder

    def images(self, ids: Tensor) -> Tensor:
        """Ids [N, h, w] -> float images [N, 3, H, W], unclamped."""
        out: Tensor = self.decoder(self.post_quant_conv(self.quantize.rows(ids)))
        return out

    def forward(self, ids: Tensor) -> tuple[Tensor]:
        """int32 ids [N, h, w] -> uint8 images [N, H, W, 3], RGB 0..255."""
        return (to_bytes(self.images(ids)),)


def empty_tokenizer(config: IbqConfig) -> IbqTokenizer:
    """A tokenizer whose parameters have shapes but no memory yet: to be loaded with assign=True."""
    with torch.device("meta"):
        return IbqTokenizer(config).eval()
