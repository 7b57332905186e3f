"""Rotary position embedding in two dimensions, as the reference has it.

Source: Su et al., "RoFormer", 2021; its form for grids is LlamaGen's (Sun et al., 2024), which
Open-MAGVIT2's models take over.
"""

from __future__ import annotations

import torch
from torch import Tensor


def rotary_table(side: int, head_dim: int, base: int) -> Tensor:
    """Cosines and sines of every position: float32 [1 + side², head_dim / 2, 2].

    Row 0 is the class's. It is all zero, so the class's queries and keys become zero vectors and
    every attention logit to the class is 0. Row 1 + side·y + x turns half of a head's pairs with y
    and half with x.
    """
    half = head_dim // 2
    frequencies = 1.0 / base ** (torch.arange(0, half, 2, device="cpu").float() / half)
    angles = torch.outer(torch.arange(side, device="cpu").float(), frequencies)
    rows = angles[:, None].expand(side, side, half // 2)
    columns = angles[None].expand(side, side, half // 2)
    grid = torch.cat((rows, columns), dim=-1).flatten(0, 1)
    turns = torch.stack((grid.cos(), grid.sin()), dim=-1)
    return torch.cat((torch.zeros(1, half, 2, device="cpu"), turns))


def rotate(x: Tensor, turns: Tensor) -> Tensor:
    """Turns adjacent pairs of channels.

    Args:
        x: Queries and keys, [N, T, 2, heads, head_dim].
        turns: Rows of `rotary_table`, [T, head_dim / 2, 2].

    Returns:
        Of the shape and type of `x`; computed in the type of the table.
    """
    cos, sin = turns[:, None, None].unbind(-1)
    channels = torch.arange(x.shape[-1], device=x.device)
    # Each channel's other one, and the sign of the sine: -1 for the first of a pair.
    partner = channels + 1 - 2 * (channels % 2)
    signs = (2 * (channels % 2) - 1).to(sin.dtype)
    exact = x.to(turns.dtype)
    turned = exact * cos.repeat_interleave(2, -1)
    turned = turned + exact.index_select(-1, partner) * (sin.repeat_interleave(2, -1) * signs)
    return turned.to(x.dtype)
