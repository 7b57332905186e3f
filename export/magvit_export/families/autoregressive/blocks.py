"""The blocks of both transformers: RMSNorm, rotary attention with a cache, SwiGLU.

Architecture of LlamaGen (Sun et al., "Autoregressive Model Beats Diffusion", 2024) as released with
Open-MAGVIT2, written from its description. Attribute names are the checkpoint's.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from magvit_export.families.autoregressive.config import AutoregressiveConfig
from magvit_export.families.autoregressive.rotary import rotate


@dataclass(frozen=True)
class Cache:
    """Keys and values of one block at earlier positions.

    Attributes:
        keys, values: [N, heads, P, head_dim]; rows of positions to come hold anything finite.
    """

    keys: Tensor
    values: Tensor


@dataclass(frozen=True)
class Positions:
    """What attention must know of the T positions that it computes.

    Attributes:
        turns: Their rows of the rotary table, [T, head_dim / 2, 2].
        among: Added to their scores of each other, [T, T]: 0 or -inf.
        before: Added to their scores of the cache's P rows, [P]: 0 or -inf. None without a cache.
    """

    turns: Tensor
    among: Tensor
    before: Tensor | None = None


def causal_mask(like: Tensor, positions: int) -> Tensor:
    """0 where a position may see another, itself and those before, and -inf elsewhere: [T, T]."""
    shape = (positions, positions)
    ones = torch.ones(shape, dtype=torch.bool, device=like.device)
    hidden = torch.full((), float("-inf"), dtype=torch.float32, device=like.device)
    return torch.where(ones.tril(), torch.zeros_like(hidden), hidden)


class Linear(nn.Linear):
    """A matrix product that computes in the type of its weight, without a bias."""

    def __init__(self, c_in: int, c_out: int) -> None:
        super().__init__(c_in, c_out, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """[..., c_in] -> [..., c_out]."""
        return super().forward(x.to(self.weight.dtype))


class RMSNorm(nn.Module):
    """Division by the root of the mean square; computed in the type of its weight, float32."""

    def __init__(self, dim: int, epsilon: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(dim))
        self.epsilon = epsilon

    def forward(self, x: Tensor) -> Tensor:
        """[..., dim] -> [..., dim], in the type of the weight."""
        x = x.to(self.weight.dtype)
        # In this form ONNX Runtime computes it as one operator.
        root = torch.sqrt(x.pow(2).mean(-1, keepdim=True) + self.epsilon)
        return x / root * self.weight


class Attention(nn.Module):
    """Causal attention of T positions to each other and to a cache."""

    def __init__(self, config: AutoregressiveConfig) -> None:
        super().__init__()
        self.heads, self.head_dim = config.n_head, config.head_dim
        self.wqkv = Linear(config.dim, 3 * config.dim)
        self.wo = Linear(config.dim, config.dim)

    def forward(
        self, x: Tensor, positions: Positions, cache: Cache | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """[N, T, dim] -> the same, and the T new keys and values [N, heads, T, head_dim]."""
        qkv = self.wqkv(x).unflatten(-1, (3, self.heads, self.head_dim))
        q, k = rotate(qkv[:, :, :2], positions.turns).transpose(1, 3).unbind(2)
        scaled = q * self.head_dim**-0.5
        keys, values = k, qkv[:, :, 2].transpose(1, 2)
        exact = positions.turns.dtype
        scores = (scaled @ keys.transpose(2, 3)).to(exact) + positions.among
        if cache is None:
            out = scores.softmax(-1).to(values.dtype) @ values
        else:
            # The cache is read where it lies: joined to the new keys it would be copied.
            earlier = scaled @ cache.keys.to(scaled.dtype).transpose(2, 3)
            earlier = earlier.to(exact) + positions.before
            both = torch.cat((earlier, scores), dim=-1).softmax(-1).to(values.dtype)
            rows = earlier.shape[-1]
            out = both[..., :rows] @ cache.values.to(values.dtype) + both[..., rows:] @ values
        return self.wo(out.transpose(1, 2).flatten(2)), keys, values


class FeedForward(nn.Module):
    """SwiGLU."""

    def __init__(self, config: AutoregressiveConfig) -> None:
        super().__init__()
        self.w1 = Linear(config.dim, config.hidden_dim)
        self.w3 = Linear(config.dim, config.hidden_dim)
        self.w2 = Linear(config.hidden_dim, config.dim)

    def forward(self, x: Tensor) -> Tensor:
        """[..., dim] -> [..., dim]."""
        out: Tensor = self.w2(F.silu(self.w1(x)) * self.w3(x))
        return out


class Block(nn.Module):
    """Attention and feed-forward, each added to what runs through all blocks."""

    def __init__(self, config: AutoregressiveConfig) -> None:
        super().__init__()
        self.attention = Attention(config)
        self.feed_forward = FeedForward(config)
        self.attention_norm = RMSNorm(config.dim, config.norm_eps)
        self.ffn_norm = RMSNorm(config.dim, config.norm_eps)

    def forward(
        self, x: Tensor, positions: Positions, cache: Cache | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """[N, T, dim] -> the same, and the new keys and values as of `Attention`."""
        attended, keys, values = self.attention(self.attention_norm(x), positions, cache)
        x = x + attended.to(x.dtype)
        return x + self.feed_forward(self.ffn_norm(x)).to(x.dtype), keys, values
