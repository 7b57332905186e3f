"""The description of a quantizer in a bundle."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from magvit_runtime.types import MAX_BITS


class LfqSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="lfq"):
    """Lookup-free quantization: a token is the signs of its latents.

    Attributes:
        bits: Bits per token; ids are in 0 .. 2^bits - 1.
        bit_order: "lsb-first": latent channel 0 is the least significant bit.
    """

    bits: Annotated[int, msgspec.Meta(ge=1, le=MAX_BITS)]
    bit_order: Literal["lsb-first"]


class CodebookSpec(
    msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="codebook"
):
    """A codebook: a token is the number of the row that fits its latents best.

    Attributes:
        size: Rows; ids are in 0 .. size - 1.
    """

    size: Annotated[int, msgspec.Meta(ge=1, le=2**MAX_BITS)]


QuantizerSpec = LfqSpec | CodebookSpec
