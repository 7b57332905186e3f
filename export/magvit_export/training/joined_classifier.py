"""A classifier over features, or over several sources together: one linear layer reads them all."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from magvit_export.training.classifier import embedding_of
from magvit_export.training.options import EmbeddingKind
from magvit_export.training.smoothing import Block
from magvit_export.training.sources import Features, Source, Tokens

# Numbers that hardly change are not blown up beyond this share of the one that changes most.
_LEAST_SPREAD = 1e-3


class TokenPart(nn.Module):
    """Embeddings of token ids, at every place."""

    def __init__(self, source: Tokens, embedding: EmbeddingKind, width: int) -> None:
        super().__init__()
        self.embedding = embedding_of(source.vocabulary, embedding, width)
        grid = source.ids.shape[1:]
        self.block = Block(math.prod(grid) * width, grid)

    def forward(self, ids: Tensor) -> Tensor:
        """int32 ids [N, t, h, w] -> float [N, t·h·w·width]."""
        embedded: Tensor = self.embedding(ids).flatten(1)
        return embedded


class FeaturePart(nn.Module):
    """Features, each less its mean and divided by its spread over the training clips."""

    def __init__(self, source: Features) -> None:
        super().__init__()
        self.block = Block(source.size)
        values = source.values.reshape(len(source.values), -1).astype(np.float64)
        spread = values.std(axis=0)
        spread = np.maximum(spread, max(_LEAST_SPREAD * spread.max(), np.finfo(np.float32).tiny))
        self.mean: Tensor
        self.scale: Tensor
        self.register_buffer("mean", torch.from_numpy(values.mean(axis=0)).float())
        self.register_buffer("scale", torch.from_numpy(1 / spread).float())

    def forward(self, values: Tensor) -> Tensor:
        """Float [N, ...] -> float [N, numbers]."""
        return (values.flatten(1) - self.mean) * self.scale


class JoinedClassifier(nn.Module):
    """Sources of a clip to logits of its class.

    Args:
        sources: Those that it is trained on.
        embedding: How token ids enter.
        num_classes: K.
        width: Numbers a token.
    """

    def __init__(
        self, sources: Sequence[Source], embedding: EmbeddingKind, *, num_classes: int, width: int
    ) -> None:
        super().__init__()
        parts = [
            TokenPart(source, embedding, width)
            if isinstance(source, Tokens)
            else FeaturePart(source)
            for source in sources
        ]
        self.parts = nn.ModuleList(parts)
        self.weights: Tensor
        self.register_buffer("weights", torch.ones(len(parts)))
        self.blocks = tuple(part.block for part in parts)
        self.head = nn.Linear(sum(block.size for block in self.blocks), num_classes)

    def features(self, *inputs: Tensor) -> Tensor:
        """One tensor a source, [N, ...] -> what the linear layer reads, [N, numbers]."""
        made = zip(self.parts, self.weights, inputs, strict=True)
        return torch.cat([weight * part(values) for part, weight, values in made], dim=1)

    def weigh(self, inputs: Sequence[Tensor], shares: Sequence[float]) -> None:
        """Weighs the sources.

        Args:
            inputs: The training clips.
            shares: Of each source: root of the mean squared length of what it gives of them, less
                its mean. It doesn't depend on how many numbers that is.
        """
        for i, (part, values) in enumerate(zip(self.parts, inputs, strict=True)):
            found = part(values).double()
            length = (found - found.mean(dim=0)).square().sum(dim=1).mean().sqrt()
            self.weights[i] = shares[i] / max(length.item(), 1e-12)

    def forward(self, *inputs: Tensor) -> Tensor:
        """One tensor a source, [N, ...] -> logits [N, K]."""
        logits: Tensor = self.head(self.features(*inputs))
        return logits
