"""A classifier over token ids: each token's embedding, and one linear layer over all places.

A token's place in time and space says most about the trajectory, so places aren't pooled.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from magvit_export.layers.lfq import dequantize
from magvit_export.onnx.operator_nodes import integer_quotient_node
from magvit_export.training.options import EmbeddingKind
from magvit_export.training.smoothing import Block

LOW_BITS = 6


def signs_of(ids: Tensor, bits: int) -> Tensor:
    """int32 [N, ...] -> float32 [N, ..., bits]: bits as ±1, the least significant first."""
    return dequantize(ids, bits).movedim(1, -1)


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
        embedded: Tensor = self.linear(signs_of(ids, self.bits))
        return embedded


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
        # Division and remainder rather than shifts: TensorRT has no bitwise operators.
        if torch.onnx.is_in_onnx_export():
            post = integer_quotient_node(ids, self.low_size)
        else:
            post = torch.div(ids, self.low_size, rounding_mode="trunc")
        total: Tensor = self.pre(ids - self.low_size * post) + self.post(post)
        return total


def embedding_of(vocab_size: int, kind: EmbeddingKind, width: int) -> nn.Module:
    """The module that turns ids [...] into numbers [..., width].

    Raises:
        ValueError: `vocab_size` isn't a power of two from 4 on.
    """
    bits = vocab_size.bit_length() - 1
    if 2**bits != vocab_size or bits < 2:
        raise ValueError(f"vocab_size must be a power of two from 4 on, not {vocab_size}")
    match kind:
        case "bits":
            return BitEmbedding(bits, width)
        case "factorized":
            return FactorizedEmbedding(bits, width)
        case "table":
            return nn.Embedding(vocab_size, width)


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
        self.embedding = embedding_of(vocab_size, embedding, width)
        self.blocks = (Block(math.prod(grid) * width, tuple(grid)),)
        self.head = nn.Linear(self.blocks[0].size, num_classes)

    def features(self, ids: Tensor) -> Tensor:
        """int32 ids [N, t, h, w] -> embeddings of all places [N, t·h·w·width]."""
        out: Tensor = self.embedding(ids).flatten(1)
        return out

    def forward(self, ids: Tensor) -> Tensor:
        """int32 ids [N, t, h, w] -> logits [N, K]."""
        logits: Tensor = self.head(self.features(ids))
        return logits


class ExportedClassifier(nn.Module):
    """The module of the classifier's ONNX graph: ids in, probabilities out.

    Args:
        classifier: Ids to logits, as it is exported: batch norms are folded into convs where it has
            a method `folded`; of an ensemble's `members` the probabilities are averaged.
    """

    def __init__(self, classifier: nn.Module) -> None:
        super().__init__()
        folded = getattr(classifier, "folded", lambda: classifier)()
        self.classifier = nn.ModuleList(getattr(folded, "members", [folded]))

    def forward(self, ids: Tensor) -> Tensor:
        """int32 ids [N, t, h, w] -> probabilities [N, K]."""
        first, *others = (member(ids).softmax(dim=1) for member in self.classifier)
        total: Tensor = sum(others, start=first)
        return total / (1 + len(others)) if others else total
