"""rFID and rFVD: the Fréchet distance between features of clips and of their reconstructions."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torchmetrics.image.fid import FrechetInceptionDistance

from magvit_export.evaluation.feature_networks import FeatureNetwork, pictures, videos
from magvit_runtime.errors import InputError
from magvit_runtime.types import Estimate


class FrechetDistance:
    """A Fréchet distance, summed up batch by batch in float64 by torchmetrics.

    Args:
        name: "rFID" or "rFVD".
        network: TorchScript file: Inception's for rFID (every frame is a picture), I3D's for rFVD.

    Raises:
        InputError: It is no such file.
    """

    def __init__(self, name: str, network: Path) -> None:
        self.name = name
        self._arrange: Callable[[NDArray[np.uint8]], torch.Tensor] = (
            videos if name == "rFVD" else pictures
        )
        self._network = FeatureNetwork(network)
        self._metric: FrechetInceptionDistance | None = None

    def add(self, original: NDArray[np.uint8], decoded: NDArray[np.uint8]) -> None:
        """Takes clips and what came of them; see `Measure`."""
        pairs = self._arrange(original), self._arrange(decoded)
        if self._metric is None:
            # The metric asks for the number of features before it has seen any.
            self._network.num_features = self._network(pairs[0][:1]).shape[1]
            self._metric = FrechetInceptionDistance(self._network)
        for pixels, real in zip(pairs, (True, False), strict=True):
            self._metric.update(pixels, real=real)

    def value(self) -> Estimate:
        """The distance. It has no interval: its own bias falls with the number of clips."""
        if self._metric is None or int(self._metric.real_features_num_samples) < 2:
            raise InputError(f"{self.name} needs more than one clip")
        return Estimate(float(self._metric.compute()), np.nan, np.nan)
