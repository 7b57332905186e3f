"""The modules of the two ONNX graphs."""

from __future__ import annotations

from torch import Tensor, nn

from magvit_export.families.autoregressive.blocks import Cache
from magvit_export.families.autoregressive.transformer import Transformer


class ExportedContext(nn.Module):
    """The large transformer: tokens in, hidden states and new rows of the cache out."""

    def __init__(self, transformer: Transformer) -> None:
        super().__init__()
        self.config = transformer.config
        self.transformer = transformer

    def forward(
        self, classes: Tensor, ids: Tensor, position: Tensor, *caches: Tensor
    ) -> tuple[Tensor, ...]:
        """Hidden states of T positions from `position` on.

        Args:
            classes: int32 [N].
            ids: int32 [N, T], the token before each position.
            position: int32 [1].
            caches: Keys and values of each block in turn, [N, heads, P, head_dim].

        Returns:
            float32 [N, T, dim]; then the new keys and values of each block in turn,
            [N, heads, T, head_dim], in the caches' type.
        """
        pairs = [Cache(*pair) for pair in zip(caches[::2], caches[1::2], strict=True)]
        hidden, keys, values = self.transformer.context(classes, ids, position, pairs)
        new = [x.to(caches[0].dtype) for pair in zip(keys, values, strict=True) for x in pair]
        return hidden.to(self.transformer.turns.dtype), *new


class ExportedSubtokens(nn.Module):
    """The small transformer: a hidden state in, the logits of both parts of a token out."""

    def __init__(self, transformer: Transformer) -> None:
        super().__init__()
        self.config = transformer.config
        self.transformer = transformer

    def forward(self, hidden: Tensor, pre: Tensor) -> tuple[Tensor, Tensor]:
        """float32 [N, dim], int32 [N] -> float32 logits [N, pre], [N, post]."""
        first, second = self.transformer.subtokens(hidden, pre)
        exact = self.transformer.turns.dtype
        return first.to(exact), second.to(exact)
