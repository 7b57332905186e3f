"""PSNR and SSIM of clips, beside values from their definitions."""

import numpy as np
import pytest

from magvit_runtime.errors import InputError
from magvit_runtime.evaluation.pixel_quality import psnr, ssim


def clips(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def test_psnr_is_of_all_values_of_a_clip() -> None:
    original = np.full((2, 5, 16, 16, 3), 100, np.uint8)
    decoded = original + np.array([3, 10], np.uint8)[:, None, None, None, None]
    expected = 20 * np.log10(255 / np.array([3, 10]))
    np.testing.assert_allclose(psnr(original, decoded), expected)


def test_psnr_counts_what_wraps_around_in_bytes() -> None:
    black = np.zeros((1, 16, 16, 3), np.uint8)
    np.testing.assert_allclose(psnr(black, black + np.uint8(255)), 0)


def test_an_equal_clip_has_the_psnr_of_one_level_in_one_value() -> None:
    same = clips(0, 1, 16, 16, 3)
    other = same.copy()
    other[0, 3, 3, 1] ^= 1
    np.testing.assert_array_equal(psnr(same, same), psnr(same, other))


def test_ssim_is_one_where_clips_are_equal_and_falls_with_noise() -> None:
    original = np.broadcast_to(np.arange(32, dtype=np.uint8) * 7, (1, 3, 32, 32)).copy()
    original = np.repeat(original[..., None], 3, axis=-1)
    noise = np.random.default_rng(3).integers(-20, 21, original.shape)
    little = np.clip(original + noise // 4, 0, 255).astype(np.uint8)
    much = np.clip(original + noise, 0, 255).astype(np.uint8)
    assert ssim(original, original) == 1
    assert ssim(original, much) < ssim(original, little) < 1


def test_ssim_of_unrelated_noise_is_near_zero() -> None:
    values = ssim(clips(4, 2, 64, 64, 3), clips(5, 2, 64, 64, 3))
    assert values.shape == (2,)
    assert np.all(np.abs(values) < 0.05)


def test_pictures_below_the_window_are_refused() -> None:
    with pytest.raises(InputError, match=r"too small for SSIM.*10 x 32.*at least 11"):
        ssim(clips(6, 1, 10, 32, 3), clips(7, 1, 10, 32, 3))
