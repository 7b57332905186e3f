"""A classifier over token ids: each token's embedding, and one linear layer over all places.

A token's place in time and space says most about the trajectory, so places aren't pooled.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor, nn

EmbeddingKind = Literal["bits", "factorized", "table"]
LOW_BITS = 6


class BitEmbedding(nn.Module):
    """Bits as ±1 through a linear map: 18·d weights serve all 2^18 ids, also unseen ones."""

    def __init__(self, bits: int, width: int) -> None:
        super().__init__()
        self.bits = bits
        self.linear = nn.Linear(bits, width, bias=False)
        # Distances between bit patterns stay the same until training changes them.
        nn.init.eye_(self.linear.weight)

    def forward(self, ids: Tensor) -> Tensor:
        """int32 [...] -> float [..., width]."""
        # Division and remainder rather than shifts: TensorRT has no bitwise operators.
        powers = 2 ** torch.arange(self.bits, dtype=torch.int32, device=ids.device)
        quotients = torch.div(ids.unsqueeze(-1), powers, rounding_mode="trunc")
        bits = quotients - 2 * torch.div(quotients, 2, rounding_mode="trunc")
        signs: Tensor = self.linear(2 * bits.to(self.linear.weight.dtype) - 1)
        return signs


class FactorizedEmbedding(nn.Module):
    """Two small tables, for the low and the high bits of an id: id = pre + 64·post."""

    def __init__(self, bits: int, width: int) -> None:
        super().__init__()
        low_bits = min(LOW_BITS, bits - 1)
        self.low_size = 2**low_bits
        self.pre = nn.Embedding(self.low_size, width)
        self.post = nn.Embedding(2 ** (bits - low_bits), width)

    def forward(self, ids: Tensor) -> Tensor:
        """int32 [...] -> float [..., width]."""
        post = torch.div(ids, self.low_size, rounding_mode="trunc")
        total: Tensor = self.pre(ids - self.low_size * post) + self.post(post)
        return total


class TrajectoryClassifier(nn.Module):
    """Token ids of a clip to logits of its class.

    Args:
        vocab_size: Number of ids; a power of two from 4 to 2^31.
        embedding: "bits" (default), "factorized", or "table" (one row per id; it needs far more
            clips than a few hundred).
        num_classes: K.
        grid: Tokens per clip, [t, h, w] or [h, w].
        width: Features per token.
    """

    def __init__(
        self,
        vocab_size: int = 262144,
        embedding: EmbeddingKind = "bits",
        *,
        num_classes: int,
        grid: tuple[int, ...],
        width: int = 18,
    ) -> None:
        super().__init__()
        bits = vocab_size.bit_length() - 1
        if 2**bits != vocab_size or bits < 2:
            raise ValueError(f"vocab_size must be a power of two from 4 on, not {vocab_size}")
        self.embedding: nn.Module
        match embedding:
            case "bits":
                self.embedding = BitEmbedding(bits, width)
            case "factorized":
                self.embedding = FactorizedEmbedding(bits, width)
            case "table":
                self.embedding = nn.Embedding(vocab_size, width)
        self.head = nn.Linear(math.prod(grid) * width, num_classes)

    def features(self, ids: Tensor) -> Tensor:
        """int32 ids [N, t, h, w] -> embeddings of all places [N, t·h·w·width]."""
        out: Tensor = self.embedding(ids).flatten(1)
        return out

    def forward(self, ids: Tensor) -> Tensor:
        """int32 ids [N, t, h, w] -> logits [N, K]."""
        logits: Tensor = self.head(self.features(ids))
        return logits


class ExportedClassifier(nn.Module):
    """The module of the classifier's ONNX graph: ids in, probabilities out."""

    def __init__(self, classifier: TrajectoryClassifier) -> None:
        super().__init__()
        self.classifier = classifier

    def forward(self, ids: Tensor) -> Tensor:
        """int32 ids [N, t, h, w] -> probabilities [N, K]."""
        logits: Tensor = self.classifier(ids)
        return logits.softmax(dim=1)
