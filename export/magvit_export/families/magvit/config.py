"""The shape of one tokenizer of the Open-MAGVIT2 family."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from magvit_export.layers.norm_constants import NORM_GROUPS

Positive = Annotated[int, msgspec.Meta(ge=1)]


class TokenizerConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Architecture of an encoder, its lookup-free quantizer and its decoder.

    Field names are those of the reference's `ddconfig`, so a fine-tuned variant's YAML section,
    written as JSON, is a valid file. `dims` is ours: 3 for video, 2 for images.

    Attributes:
        ch: Channels of the first level.
        ch_mult: Channel multiplier of each level; each level but the last halves height and width.
        num_res_blocks: Residual blocks per level, and in the middle.
        z_channels: Bits of a token (the quantizer has one channel per bit; int32 ids allow 31).
        resolution: Height and width of the clips that the weights were trained on.
        in_channels, out_ch: Colour channels in and out. Runtime input is RGB: always 3.
        double_z: The reference's switch for a variational encoder. No tokenizer uses it.
        dims: 3 (time, height, width; causal in time) or 2 (height, width).
    """

    ch: Positive = 128
    ch_mult: tuple[Positive, ...] = (1, 2, 2, 4)
    num_res_blocks: Positive = 4
    z_channels: Annotated[int, msgspec.Meta(ge=1, le=31)] = 18
    resolution: Positive = 128
    in_channels: Literal[3] = 3
    out_ch: Literal[3] = 3
    double_z: Literal[False] = False
    dims: Literal[2, 3] = 3

    def __post_init__(self) -> None:
        if not self.ch_mult:
            raise ValueError("`ch_mult` needs at least one level")
        if self.ch % NORM_GROUPS:
            raise ValueError(f"`ch` must be a multiple of {NORM_GROUPS} (GroupNorm's groups)")

    @property
    def spatial_stride(self) -> int:
        """Pixels of height (or width) that a token covers."""
        return int(2 ** (len(self.ch_mult) - 1))

    @property
    def temporal_stride(self) -> int:
        """Frames that a token covers, except the first token, which covers one. 1 for images."""
        if self.dims == 2:
            return 1
        return int(2 ** sum(mult != 1 for mult in self.ch_mult[:-1]))

    def downsample_stride(self, level: int) -> tuple[int, ...]:
        """Stride of the downsampling conv after `level`: time is kept where `ch_mult` is 1."""
        if self.dims == 2:
            return (2, 2)
        return (1 if self.ch_mult[level] == 1 else 2, 2, 2)
