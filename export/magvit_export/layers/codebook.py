"""Vector quantization by the largest dot product with a codebook's rows.

Source: Shi et al., "Taming Scalable Visual Tokenizer for Autoregressive Image Generation" (IBQ),
2024; as released, an id is the arg-max of raw dot products, without a norm.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from magvit_export.onnx import operator_nodes

TILE = 4096  # Rows whose scores are held at once.


class Codebook(nn.Module):
    """Rows of a table, and the search for the one that fits a latent best."""

    def __init__(self, rows: int, channels: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(rows, channels)

    def forward(self, latents: Tensor) -> tuple[Tensor, Tensor]:
        """The row that fits each latent best, and by how much; see `search`."""
        return search(latents, self.embedding.weight)

    def rows(self, ids: Tensor) -> Tensor:
        """Rows of int32 or int64 ids [N, h, w]: [N, C, h, w]."""
        rows: Tensor = self.embedding(ids)
        return rows.movedim(-1, 1)


def search(latents: Tensor, codebook: Tensor) -> tuple[Tensor, Tensor]:
    """The row with the largest dot product, and its margin over the second.

    Of equal scores the lowest row counts. A NaN score is above all others, as in NumPy's argmax.
    Scores are never held for more than `TILE` rows.

    Args:
        latents: [N, C, ...], any float type; scores are computed in the codebook's.
        codebook: [rows, C], of 2 rows at least.

    Returns:
        (ids, margins): int32 [N, ...], and of the codebook's type [N, ...]: the best score minus
        the second best, 0 where two rows are equally good.
    """
    if torch.onnx.is_in_onnx_export():
        return operator_nodes.codebook_argmax_node(latents, codebook)
    flat = latents.to(codebook.dtype).movedim(1, -1).flatten(0, -2)
    first, ids, second = _best_two(flat, codebook[:TILE])
    for start in range(TILE, len(codebook), TILE):
        best, index, next_best = _best_two(flat, codebook[start : start + TILE])
        # A NaN, once found, stays.
        is_better = ~(best <= first) & ~first.isnan()
        second = torch.where(
            is_better, torch.maximum(first, next_best), torch.maximum(second, best)
        )
        ids = torch.where(is_better, index + start, ids)
        first = torch.where(is_better, best, first)
    shape = (latents.shape[0], *latents.shape[2:])
    return ids.to(torch.int32).reshape(shape), (first - second).reshape(shape)


def _best_two(latents: Tensor, rows: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The best score of each latent, its row, and the second best score."""
    scores = latents @ rows.T
    ids = scores.argmax(dim=-1)
    first = scores.gather(1, ids[:, None])[:, 0]
    scores.scatter_(1, ids[:, None], -torch.inf)
    return first, ids, scores.amax(dim=-1)
