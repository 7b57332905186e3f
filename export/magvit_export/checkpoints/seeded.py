"""Weights generated from key names: every machine makes the same ones, and no file is needed.

For demonstrations, tests and benchmarks where real weights can't be had. Their scale keeps
activations in range; they have no training. Whatever is made with them is labelled as seeded.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


def seeded_array(
    key: str, shape: tuple[int, ...], *, salt: str = "", name: str | None = None
) -> NDArray[np.float32]:
    """One tensor's weights, a function of its name alone.

    Matrices and kernels are normal with variance 1/fan-in (three times the deviation for the
    encoder's last conv), norm weights 1 + 0.2·normal, other vectors 0.05·normal.

    Args:
        key: Raw checkpoint key; it chooses the rule.
        shape: Shape of the tensor.
        salt: Seeds another set of weights.
        name: Name to seed by where it isn't `key`: that of the EMA copy.

    Returns:
        float32 of `shape`.
    """
    seed = zlib.crc32((salt + (name or key)).encode())
    normal = np.random.default_rng(seed).standard_normal(shape, dtype=np.float32)
    if len(shape) >= 2:
        weights = normal / np.float32(math.sqrt(math.prod(shape[1:])))
        return weights * np.float32(3) if key.startswith("encoder.conv_out.") else weights
    if "norm" in key and key.endswith(".weight"):
        return np.float32(1) + np.float32(0.2) * normal
    return np.float32(0.05) * normal


def seeded_state(
    shapes: Mapping[str, tuple[int, ...]], seed: int | None = None
) -> dict[str, Tensor]:
    """Seeded weights for every key of a state dict.

    Args:
        shapes: Shape of each raw key.
        seed: Chooses another set of weights; None is the set that the golden fixtures use.

    Returns:
        float32 tensors by raw key.
    """
    salt = "" if seed is None else f"{seed}:"
    return {
        key: torch.from_numpy(seeded_array(key, shape, salt=salt)) for key, shape in shapes.items()
    }
