"""The shape of one IBQ tokenizer."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from magvit_export.layers.norm_constants import NORM_GROUPS

Positive = Annotated[int, msgspec.Meta(ge=1)]


class IbqConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Architecture of an encoder, its codebook and its decoder.

    Field names are those of the reference's `ddconfig`, with the two of its model section beside
    them, so a fine-tuned variant's YAML, written as one JSON object, is a valid file.

    Attributes:
        n_embed: Rows of the codebook.
        embed_dim: Columns of the codebook.
        ch: Channels of the first level.
        ch_mult: Channel multiplier of each level; each level but the last halves height and width.
        num_res_blocks: Residual blocks a level; the decoder has one more.
        attn_resolutions: Levels of this height and width have attention after each block, counted
            from `resolution`.
        z_channels: Channels that the encoder gives.
        resolution: Height and width of the images that the weights were trained on.
        in_channels, out_ch: Colour channels in and out. Runtime input is RGB: always 3.
        double_z: The reference's switch for a variational encoder. No tokenizer uses it.
        dropout: Of training; inference has none.
    """

    n_embed: Annotated[int, msgspec.Meta(ge=2, le=2**31)] = 16384
    embed_dim: Positive = 256
    ch: Positive = 128
    ch_mult: Annotated[tuple[Positive, ...], msgspec.Meta(min_length=1)] = (1, 1, 2, 2, 4)
    num_res_blocks: Positive = 4
    attn_resolutions: tuple[Positive, ...] = (16,)
    z_channels: Positive = 256
    resolution: Positive = 256
    in_channels: Literal[3] = 3
    out_ch: Literal[3] = 3
    double_z: Literal[False] = False
    dropout: float = 0.0

    def __post_init__(self) -> None:
        if self.ch % NORM_GROUPS:
            raise ValueError(f"`ch` must be a multiple of {NORM_GROUPS} (GroupNorm's groups)")

    @property
    def spatial_stride(self) -> int:
        """Pixels of height (or width) a token covers."""
        return int(2 ** (len(self.ch_mult) - 1))

    def has_attention(self, level: int) -> bool:
        """Whether a level's blocks are followed by attention."""
        return self.resolution // 2**level in self.attn_resolutions
