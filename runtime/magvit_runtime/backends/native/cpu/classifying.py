"""The steps of classifiers on the CPU: small next to an encoder, so NumPy does them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from magvit_runtime.backends.native.classifier_steps import Classes, DigitRows
from magvit_runtime.backends.native.cpu.maps import FeatureMap, Floats
from magvit_runtime.errors import BackendError


def write_digit_rows(step: DigitRows, ids: NDArray[np.int32], target: FeatureMap) -> None:
    """Writes, at each position, the sum of the rows that the digits of ids [t, h, w] number.

    Raises:
        BackendError: An id has no rows.
    """
    low, high = step.low, step.high
    if ids.min() < 0 or ids.max() >= len(low) * len(high):
        raise BackendError(
            "an id has no rows in the classifier's tables",
            found=f"{ids.min()} … {ids.max()}",
            expected=f"0 … {len(low) * len(high) - 1}",
        )
    target.values[..., target.channels :] = 0
    target.values[..., : target.channels] = low[ids % len(low)] + high[ids // len(low)]


def probabilities_of(step: Classes, source: FeatureMap) -> Floats:
    """Of each class: float32 [K]."""
    numbers = source.values[..., : source.channels]
    if step.is_channels_first:
        numbers = np.moveaxis(numbers, -1, 0)
    logits = step.weight @ numbers.reshape(-1) + step.bias
    powers = np.exp(logits - logits.max())
    probabilities: Floats = powers / powers.sum()
    return probabilities
