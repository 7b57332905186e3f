"""Agreement of latents, in units of their spread, and of tokens."""

from __future__ import annotations

import numpy as np
import pytest

from magvit_runtime.parity import compare_latents


@pytest.fixture
def reference() -> np.ndarray:
    return np.random.default_rng(0).standard_normal((4, 18, 5, 16, 16)) * 3


def test_equal_latents_agree(reference: np.ndarray) -> None:
    agreement = compare_latents(reference.astype(np.float32), reference.astype(np.float32))
    assert (agreement.rms, agreement.max, agreement.flipped_bits) == (0, 0, 0)
    assert (agreement.bits, agreement.tokens) == (reference.size, reference.size // 18)
    assert agreement.passes("fp32")


def test_an_error_of_known_size(reference: np.ndarray) -> None:
    error = 1e-3 * reference.std() * np.random.default_rng(1).standard_normal(reference.shape)
    agreement = compare_latents(reference + error, reference)
    assert agreement.rms == pytest.approx(1e-3, rel=0.02)
    assert 0 < agreement.flipped_bits < 1e-3 * agreement.bits
    assert 0 < agreement.changed_tokens <= agreement.flipped_bits
    assert agreement.outside_margin == 0
    assert agreement.passes("fp16")
    assert not agreement.passes("fp32")


def test_one_flip_of_a_large_latent_fails(reference: np.ndarray) -> None:
    wrong = reference.copy()
    place = np.unravel_index(np.abs(reference).argmax(), reference.shape)
    wrong[place] = -wrong[place]
    agreement = compare_latents(wrong, reference)
    assert (agreement.flipped_bits, agreement.changed_tokens, agreement.outside_margin) == (1, 1, 1)
    assert not agreement.passes("bf16")


def test_bits_in_the_wrong_order_fail(reference: np.ndarray) -> None:
    assert not compare_latents(reference[:, ::-1], reference).passes("bf16")
