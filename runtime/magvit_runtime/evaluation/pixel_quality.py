"""How far reconstructed clips are from their originals, pixel by pixel: PSNR and SSIM."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from magvit_runtime.errors import InputError
from magvit_runtime.hardware.packages import missing_package

# Side of SSIM's Gaussian window: 3.5 σ of 1.5 pixels to each side.
SSIM_WINDOW = 11


def psnr(original: NDArray[np.uint8], other: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Peak signal-to-noise ratio of each clip, over all its frames and channels.

    Args:
        original: uint8 RGB, [N, ...].
        other: Of the same shape.

    Returns:
        float64 [N] in dB, of a peak of 255. A clip that is equal throughout counts as if one
        value were off by one level, which keeps means finite.
    """
    difference = original.astype(np.int32) - other
    squares = np.sum(difference.astype(np.int64) ** 2, axis=tuple(range(1, original.ndim)))
    mean = np.maximum(squares, 1) / (original.size // len(original))
    return np.asarray(10 * np.log10(255**2 / mean))


def ssim(original: NDArray[np.uint8], other: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Structural similarity of each clip: the mean over its frames and channels.

    Args:
        original: uint8 RGB, [N, T, H, W, 3] or [N, H, W, 3], H and W at least 11.
        other: Of the same shape.

    Returns:
        float64 [N], 1 where they are equal.

    Raises:
        InputError: The pictures are smaller than SSIM's window.
        MissingPackageError: scikit-image isn't installed.

    Source: Wang, Bovik, Sheikh and Simoncelli, 2004, with its Gaussian window (σ = 1.5).
    """
    try:
        from skimage.metrics import structural_similarity
    except ImportError as error:
        raise missing_package("skimage", "SSIM") from error

    height, width = original.shape[-3:-1]
    if min(height, width) < SSIM_WINDOW:
        raise InputError(
            "these pictures are too small for SSIM",
            found=f"{height} x {width} pixels",
            expected=f"at least {SSIM_WINDOW} a side",
        )
    means = []
    for one, two in zip(original, other, strict=True):
        frames = one.reshape(-1, height, width, 3), two.reshape(-1, height, width, 3)
        values = [
            structural_similarity(
                first,
                second,
                channel_axis=-1,
                data_range=255,
                gaussian_weights=True,
                sigma=1.5,
                use_sample_covariance=False,
            )
            for first, second in zip(*frames, strict=True)
        ]
        means.append(np.mean(values))
    return np.asarray(means, np.float64)
