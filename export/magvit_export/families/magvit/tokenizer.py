"""The whole tokenizer, and its two sides as the exported graphs see them."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from magvit_export.families.magvit.config import TokenizerConfig
from magvit_export.families.magvit.decoder import Decoder
from magvit_export.families.magvit.encoder import Encoder
from magvit_export.layers import lfq
from magvit_export.layers.pixels import normalize_pixels, to_bytes


class MagvitTokenizer(nn.Module):
    """Encoder, lookup-free quantizer and decoder of one configuration.

    Args:
        config: Its architecture.
    """

    def __init__(self, config: TokenizerConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = Encoder(config)
        self.decoder = Decoder(config)

    def latents(self, frames: Tensor) -> Tensor:
        """uint8 frames [N, T, H, W, 3] (or [N, H, W, 3]), RGB 0..255 -> [N, z, t, h, w]."""
        return encode_frames(self.encoder, frames)

    def encode(self, frames: Tensor) -> Tensor:
        """uint8 frames [N, T, H, W, 3] (or [N, H, W, 3]), RGB 0..255 -> int32 ids [N, t, h, w]."""
        return lfq.quantize(self.latents(frames))

    def decode(self, ids: Tensor) -> Tensor:
        """Ids [N, t, h, w] -> float frames [N, 3, T, H, W], roughly in -1..1, unclamped."""
        return decode_ids(self.decoder, ids, self.config.z_channels)


class ExportedEncoder(nn.Module):
    """The module of the encoder's ONNX graph: uint8 frames in, ids and latents out."""

    def __init__(self, encoder: Encoder) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, frames: Tensor) -> tuple[Tensor, Tensor]:
        """uint8 frames [N, T, H, W, 3] -> (int32 ids [N, t, h, w], latents [N, z, t, h, w])."""
        latents = encode_frames(self.encoder, frames)
        return lfq.quantize(latents), latents


def encode_frames(encoder: Encoder, frames: Tensor) -> Tensor:
    """Channel-last uint8 frames through normalisation (x / 127.5 - 1) and the encoder."""
    dtype = encoder.norm_out.weight.dtype  # float32 in half-precision models too
    latents: Tensor = encoder(normalize_pixels(frames, dtype))
    return latents


class ExportedDecoder(nn.Module):
    """What the decoder's ONNX graph computes: ids in, uint8 frames out."""

    def __init__(self, decoder: Decoder, bits: int) -> None:
        super().__init__()
        self.decoder = decoder
        self.bits = bits

    def forward(self, ids: Tensor) -> tuple[Tensor]:
        """int32 ids [N, t, h, w] -> uint8 frames [N, T, H, W, 3], RGB 0..255."""
        return (to_bytes(decode_ids(self.decoder, ids, self.bits)),)


def decode_ids(decoder: Decoder, ids: Tensor, bits: int) -> Tensor:
    """Ids [N, t, h, w] through their codes and the decoder, unclamped."""
    dtype = decoder.norm_out.weight.dtype  # float32 in half-precision models too
    frames: Tensor = decoder(lfq.dequantize(ids, bits, dtype))
    return frames


def empty_tokenizer(config: TokenizerConfig) -> MagvitTokenizer:
    """A tokenizer whose parameters have shapes but no memory yet: to be loaded with assign=True."""
    with torch.device("meta"):
        return MagvitTokenizer(config).eval()
