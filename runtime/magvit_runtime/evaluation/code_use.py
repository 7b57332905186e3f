"""How much of its vocabulary a tokenizer uses: share of codes, and entropy of tokens."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from magvit_runtime.evaluation.estimates import jackknife_estimate, mean_estimate
from magvit_runtime.types import Estimate


@dataclass
class CodeUse:
    """Counts the codes of clips as they come.

    Memory: 8 bytes a different code of each clip.

    Attributes:
        size: Ids of the vocabulary.
    """

    size: int
    _clips: list[tuple[NDArray[np.int32], NDArray[np.int32]]] = field(default_factory=list)

    def add(self, ids: NDArray[np.int32]) -> None:
        """Counts the codes of clips.

        Args:
            ids: int32 [N, ...] in 0 .. size - 1.
        """
        for clip in ids:
            codes, counts = np.unique(clip, return_counts=True)
            self._clips.append((codes.astype(np.int32), counts.astype(np.int32)))

    @property
    def tokens(self) -> int:
        """Tokens so far."""
        return int(sum(counts.sum() for _, counts in self._clips))

    def used(self) -> Estimate:
        """Share of the vocabulary that any clip used; it grows with the number of clips."""
        clips_of = np.zeros(self.size, np.int64)
        for codes, _ in self._clips:
            clips_of[codes] += 1
        total = int(np.count_nonzero(clips_of))
        without = [total - int(np.sum(clips_of[codes] == 1)) for codes, _ in self._clips]
        estimate = jackknife_estimate(total, without)
        return Estimate(
            estimate.value / self.size, estimate.low / self.size, estimate.high / self.size
        )

    def entropy(self) -> Estimate:
        """Entropy of a token in bits, of the frequencies in all clips; at most log2(size).

        Few tokens bias it low: it can't exceed log2(tokens). The interval holds the frequencies,
        so it is that of the mean of -log2 p over clips.
        """
        totals = np.zeros(self.size, np.int64)
        for codes, counts in self._clips:
            totals[codes] += counts
        logarithms = np.zeros(self.size)
        np.log2(totals / totals.sum(), out=logarithms, where=totals > 0)
        surprise = [
            -float(counts @ logarithms[codes]) / int(counts.sum()) for codes, counts in self._clips
        ]
        # Clips of unequal size weigh by their tokens.
        sizes = np.array([counts.sum() for _, counts in self._clips], np.float64)
        return mean_estimate(np.asarray(surprise) * sizes / sizes.mean())
