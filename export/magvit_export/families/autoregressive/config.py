"""The shape of one autoregressive transformer."""

from __future__ import annotations

import math
from typing import Annotated, Literal

import msgspec

from magvit_runtime.types import MAX_BITS

Positive = Annotated[int, msgspec.Meta(ge=1)]
Bits = Annotated[int, msgspec.Meta(ge=1, le=MAX_BITS - 1)]

# What the reference's `transformer_config` says besides: of training, and a count of ids that
# nothing is made of where ids are factorized.
TRAINING_FIELDS = frozenset(
    {
        "attn_dropout_p",
        "class_dropout_prob",
        "drop_path_rate",
        "ffn_dropout_p",
        "initializer_range",
        "resid_dropout_p",
        "token_drop",
        "vocab_size",
    }
)


class AutoregressiveConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Architecture of the large transformer over tokens and the small one inside of each token.

    Field names are those of the reference's `transformer_config`, so its YAML is a valid file.

    Attributes:
        block_size: Tokens of an image: a square grid.
        spatial_n_layer: Blocks of the large transformer.
        factorized_n_layer: Blocks of the small transformer.
        dim: Width of both.
        n_head: Attention heads of both.
        cond_dim: Width of a class's embedding, which is the input of the first position.
        factorized_bits: Bits of the first and of the second part of a token id; the first part is
            the lower bits.
        class_num: Classes; one more row of the table is the null class of guidance.
        token_factorization: The reference's switch for ids in two parts, which all have.
        norm_eps: What the norms add to the mean square.
        rope_base: Base of the rotary frequencies.
        multiple_of: The feed-forward's width is a multiple of this.
    """

    block_size: Positive = 256
    spatial_n_layer: Positive = 24
    factorized_n_layer: Positive = 2
    dim: Positive = 1024
    n_head: Positive = 16
    cond_dim: Positive = 1024
    factorized_bits: tuple[Bits, Bits] = (6, 12)
    class_num: Positive = 1000
    token_factorization: Literal[True] = True
    norm_eps: Annotated[float, msgspec.Meta(gt=0)] = 1e-5
    rope_base: Positive = 10000
    multiple_of: Positive = 256

    def __post_init__(self) -> None:
        if math.isqrt(self.block_size) ** 2 != self.block_size:
            raise ValueError("`block_size` must be a square number: the tokens are a square grid")
        # Half of a head's pairs turn with the row and half with the column.
        if self.dim % (4 * self.n_head):
            raise ValueError("`dim` must be a multiple of 4 · `n_head`")
        if self.cond_dim != self.dim:
            raise ValueError("`cond_dim` must be `dim`: a class's embedding is the first input")
        if sum(self.factorized_bits) > MAX_BITS:
            raise ValueError(f"`factorized_bits` may have {MAX_BITS} bits together")

    @property
    def side(self) -> int:
        """Tokens of a row, and rows."""
        return math.isqrt(self.block_size)

    @property
    def head_dim(self) -> int:
        """Width of one attention head."""
        return self.dim // self.n_head

    @property
    def hidden_dim(self) -> int:
        """Width inside of the feed-forward: 8/3 of `dim`, rounded up."""
        return -(-(8 * self.dim // 3) // self.multiple_of) * self.multiple_of

    @property
    def vocabularies(self) -> tuple[int, int]:
        """Values of the first and of the second part of an id."""
        pre, post = self.factorized_bits
        return 2**pre, 2**post
