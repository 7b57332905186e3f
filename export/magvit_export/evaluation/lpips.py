"""LPIPS: a perceptual distance of pictures (Zhang et al., 2018, arXiv 1801.03924)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from magvit_export.evaluation.feature_networks import FeatureNetwork, pictures
from magvit_runtime.evaluation.estimates import mean_estimate
from magvit_runtime.types import Estimate


class Lpips:
    """The mean LPIPS over clips, each the mean over its frames.

    Args:
        network: TorchScript file of either published form: `lpips.LPIPS`, which takes two pictures
            in -1..1 and gives their distance, or NVIDIA's `vgg16.pt`, whose features with
            `return_lpips` are so scaled that their squared distance is LPIPS.

    Raises:
        InputError: It is no such file.
    """

    name = "LPIPS"

    def __init__(self, network: Path) -> None:
        self._network = FeatureNetwork(network)
        self._values: list[float] = []

    def add(self, original: NDArray[np.uint8], decoded: NDArray[np.uint8]) -> None:
        """Takes clips and what came of them; see `Measure`."""
        first, second = pictures(original), pictures(decoded)
        if "return_lpips" in self._network.arguments:
            one = self._network(first, return_lpips=True)
            two = self._network(second, return_lpips=True)
            distances = (one - two).square().sum(1)
        else:
            distances = self._network(_signed(first), **self._second(_signed(second))).flatten()
        self._values.extend(distances.reshape(len(original), -1).mean(1).tolist())

    def value(self) -> Estimate:
        """The mean over clips, with its interval."""
        return mean_estimate(self._values)

    def _second(self, picture: torch.Tensor) -> dict[str, torch.Tensor]:
        return {self._network.arguments[1]: picture}


def _signed(pixels: torch.Tensor) -> torch.Tensor:
    return pixels.float() / 127.5 - 1
