"""The whole model: the large transformer over an image's tokens, the small one inside of each."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from magvit_export.families.autoregressive.blocks import (
    Block,
    Cache,
    Linear,
    Positions,
    RMSNorm,
    causal_mask,
)
from magvit_export.families.autoregressive.config import AutoregressiveConfig
from magvit_export.families.autoregressive.rotary import rotary_table
from magvit_export.onnx.operator_nodes import integer_quotient_node


class ClassEmbedder(nn.Module):
    """A row for each class, and the null class's after them."""

    def __init__(self, config: AutoregressiveConfig) -> None:
        super().__init__()
        self.embedding_table = nn.Embedding(config.class_num + 1, config.cond_dim)

    def forward(self, classes: Tensor) -> Tensor:
        """Int [N] -> [N, dim]."""
        rows: Tensor = self.embedding_table(classes)
        return rows


class Transformer(nn.Module):
    """Both transformers, with the names of the checkpoint.

    Position 0 takes the class; position n > 0 takes token n - 1. Each gives a hidden state, of
    which the small transformer makes the two parts of token n: `pre`, then `post` given `pre`.
    """

    turns: Tensor
    # Type of what runs through all blocks; None is that of the embeddings.
    stream_dtype: torch.dtype | None = None

    def __init__(self, config: AutoregressiveConfig) -> None:
        super().__init__()
        self.config = config
        pre, post = config.vocabularies
        self.pre_emb = nn.Embedding(pre, config.dim)
        self.post_emb = nn.Embedding(post, config.dim)
        self.class_emb = ClassEmbedder(config)
        self.spatial_blocks = nn.ModuleList(Block(config) for _ in range(config.spatial_n_layer))
        self.factorized_blocks = nn.ModuleList(
            Block(config) for _ in range(config.factorized_n_layer)
        )
        self.norm = RMSNorm(config.dim, config.norm_eps)
        self.head = nn.ModuleList((Linear(config.dim, pre), Linear(config.dim, post)))
        # No part of a checkpoint, and never on the device "meta".
        table = rotary_table(config.side, config.head_dim, config.rope_base)
        self.register_buffer("turns", table, persistent=False)

    def part(self, *children: str) -> Transformer:
        """This transformer with some of its modules alone; it shares their weights."""
        alone = copy.copy(self)
        alone._modules = {name: self._modules[name] for name in children}
        return alone

    def split(self, ids: Tensor) -> tuple[Tensor, Tensor]:
        """Token ids -> their two parts; the first is the lower bits."""
        pre = self.config.vocabularies[0]
        high = integer_quotient(ids, pre)
        return ids - high * pre, high

    def context(
        self,
        classes: Tensor,
        ids: Tensor,
        first: Tensor,
        caches: Sequence[Cache] | None = None,
    ) -> tuple[Tensor, list[Tensor], list[Tensor]]:
        """Hidden states of T positions from the one numbered `first` on.

        Args:
            classes: Int [N], 0 .. class_num; class_num is the null class.
            ids: Int [N, T], the token before each position; before position 0 any.
            first: Int scalar.
            caches: What each block keeps of the positions before `first`; None where `first` is 0.

        Returns:
            [N, T, dim]; and each block's new keys and values, [N, heads, T, head_dim].
        """
        count = ids.shape[1]
        numbers = first + torch.arange(count, device=ids.device)
        pre, post = self.split(ids)
        of_class = self.class_emb(classes)[:, None]
        of_tokens = self.pre_emb(pre) + self.post_emb(post)
        x = torch.where((numbers == 0)[:, None], of_class, of_tokens)
        x = x.to(self.stream_dtype or x.dtype)
        turns = self.turns.index_select(0, numbers)
        among = causal_mask(turns, count).to(turns.dtype)
        before = None
        if caches is not None:
            rows = torch.arange(caches[0].keys.shape[2], device=ids.device)
            hidden = torch.full((), float("-inf"), dtype=turns.dtype, device=ids.device)
            before = torch.where(rows < first, torch.zeros_like(hidden), hidden)
        positions = Positions(turns, among, before)
        keys, values = [], []
        for i, block in enumerate(self.spatial_blocks):
            x, k, v = block(x, positions, None if caches is None else caches[i])
            keys.append(k)
            values.append(v)
        return x, keys, values

    def subtokens(self, hidden: Tensor, pre: Tensor) -> tuple[Tensor, Tensor]:
        """Logits of both parts of a token.

        The small transformer sees two positions: the hidden state, then the embedding of `pre`.
        It keeps nothing from token to token.

        Args:
            hidden: Hidden states, [N, dim].
            pre: First parts, int [N]; the logits of the first part don't depend on them.

        Returns:
            [N, pre vocabulary] and [N, post vocabulary].
        """
        second = self.pre_emb(pre)
        second = second.to(self.stream_dtype or second.dtype)
        x = torch.stack((hidden.to(second.dtype), second), dim=1)
        # The rows of the class and of the first token, as in the reference.
        turns = self.turns[:2]
        positions = Positions(turns, causal_mask(turns, 2).to(turns.dtype))
        for block in self.factorized_blocks:
            x, _, _ = block(x, positions)
        x = self.norm(x)
        first, last = x.unbind(1)
        return self.head[0](first), self.head[1](last)


class AutoregressiveModel(nn.Module):
    """A transformer under the checkpoint's name for it.

    Args:
        config: Its architecture.
    """

    def __init__(self, config: AutoregressiveConfig) -> None:
        super().__init__()
        self.config = config
        self.transformer = Transformer(config)

    def logits(self, classes: Tensor, ids: Tensor) -> tuple[Tensor, Tensor]:
        """Teacher-forced logits of every token, in one pass.

        Args:
            classes: Int [N]; the number after the last class is the null class.
            ids: Int [N, P].

        Returns:
            [N, P, pre vocabulary], given the class and earlier tokens; [N, P, post vocabulary],
            given the first part of the same token too.
        """
        earlier = torch.cat((torch.zeros_like(ids[:, :1]), ids[:, :-1]), dim=1)
        zero = torch.zeros((), dtype=ids.dtype, device=ids.device)
        hidden, _, _ = self.transformer.context(classes, earlier, zero)
        pre, _ = self.transformer.split(ids)
        first, second = self.transformer.subtokens(hidden.flatten(0, 1), pre.flatten())
        return first.view(*ids.shape, -1), second.view(*ids.shape, -1)


def integer_quotient(x: Tensor, divisor: int) -> Tensor:
    """Of integers that aren't negative."""
    if torch.onnx.is_in_onnx_export():
        return integer_quotient_node(x, divisor)
    return torch.div(x, divisor, rounding_mode="trunc")


def empty_model(config: AutoregressiveConfig) -> AutoregressiveModel:
    """A model whose parameters have shapes but no memory yet: to be loaded with assign=True."""
    with torch.device("meta"):
        return AutoregressiveModel(config).eval()
