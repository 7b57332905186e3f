"""Bytes to what encoders take, and what decoders give to bytes."""

from __future__ import annotations

import torch
from torch import Tensor

PIXEL_SCALE = 127.5
FORMULA = "x / 127.5 - 1"
BYTES_FORMULA = "floor((clip(x, -1, 1) + 1) * 127.5 + 0.5)"


def normalize_pixels(frames: Tensor, dtype: torch.dtype) -> Tensor:
    """Channel-last bytes [N, ..., 3] in 0..255 -> channel-first [N, 3, ...] in -1..1.

    Args:
        frames: uint8.
        dtype: Float type of the result, and of the arithmetic.
    """
    # Cast first: TensorRT casts uint8 and does nothing else with it.
    normalized = frames.to(dtype) / PIXEL_SCALE - 1
    return normalized.movedim(-1, 1)


def standardize_pixels(
    frames: Tensor,
    dtype: torch.dtype,
    scale: float,
    mean: tuple[float, float, float],
    std: tuple[float, float, float],
) -> Tensor:
    """Channel-last bytes [N, ..., 3] -> channel-first (byte · scale − mean) / std, [N, 3, ...].

    Args:
        frames: uint8.
        dtype: Float type of the result, and of the arithmetic.
        scale: What bytes are multiplied by.
        mean: Of red, green and blue, after that.
        std: Likewise.
    """
    shift, width = (
        torch.tensor(values, dtype=dtype, device=frames.device) for values in (mean, std)
    )
    return ((frames.to(dtype) * scale - shift) / width).movedim(-1, 1)


def to_bytes(frames: Tensor) -> Tensor:
    """Frames [N, 3, ...] in -1..1 to the nearest bytes, channels last; what lies beyond is cut."""
    levels = (frames.clamp(-1, 1) + 1) * PIXEL_SCALE
    # Rounded in float and cast last: TensorRT casts to uint8 and does nothing else with it.
    return torch.floor(levels + 0.5).movedim(1, -1).to(torch.uint8)
