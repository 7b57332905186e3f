"""The terms of the tokenizer's loss, against what they stand for."""

from __future__ import annotations

import itertools
from itertools import pairwise

import numpy as np
import pytest
import torch

from magvit_export.layers import lfq
from magvit_export.training.tokenizer.losses import (
    Losses,
    bit_entropy,
    drawn_pixels,
    drawn_tokens,
    quantizer_losses,
    reconstruction_loss,
    straight_through,
)
from magvit_export.training.tokenizer.options import LossWeights

BITS = 4


def code_probabilities(latents: torch.Tensor) -> torch.Tensor:
    """The paper's: softmax over all codes of -|z - c|², [tokens, K] -> [tokens, 2^K]."""
    codes = torch.tensor(list(itertools.product((-1.0, 1.0), repeat=latents.shape[1])))
    return torch.softmax(-(latents[:, None] - codes).square().sum(dim=-1), dim=1)


def entropy(probabilities: torch.Tensor) -> torch.Tensor:
    return -(probabilities * torch.log2(probabilities)).sum(dim=-1)


def seeded_latents(tokens: int = 24) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(0).normal(size=(tokens, BITS))).float() * 0.4


def as_clip(latents: torch.Tensor) -> torch.Tensor:
    """[tokens, K] -> [1, K, tokens, 1, 1]"""
    return latents.T[None, :, :, None, None]


def all_drawn(latents: torch.Tensor) -> torch.Tensor:
    return torch.ones(1, 1, len(latents), 1, 1, dtype=torch.bool)


def test_a_token_s_entropy_is_exactly_that_over_all_codes() -> None:
    latents = seeded_latents()
    _, certainty, _ = quantizer_losses(as_clip(latents), all_drawn(latents))
    expected = entropy(code_probabilities(latents)).mean() / BITS
    assert certainty.item() == pytest.approx(expected.item(), rel=1e-5)


def test_variety_falls_as_bits_become_alike() -> None:
    found = []
    for share in (0.0, 0.3, 0.6, 0.9, 1.0):
        latents = 4 * seeded_latents(400)
        latents[:, 1] = share * latents[:, 0] + (1 - share) * latents[:, 1]
        found.append(quantizer_losses(as_clip(latents), all_drawn(latents))[2].item())
    assert found[0] > 0.99
    assert all(after < before - 0.005 for before, after in pairwise(found))
    assert found[-1] < 0.75  # The entropy of three bits in four, or less.


def test_copies_of_one_bit_are_parted() -> None:
    one = torch.tensor([0.5, -0.5] * 10)
    copies = torch.stack([one, one, -one, one], dim=1) + 0.1 * seeded_latents(20)
    copies.requires_grad_()
    optimizer = torch.optim.Adam([copies], 0.02)
    found = []
    for _ in range(100):
        optimizer.zero_grad()
        variety = quantizer_losses(as_clip(copies), all_drawn(copies))[2]
        torch.autograd.backward(-variety)
        optimizer.step()
        found.append(variety.item())
    assert found[0] < 0.5
    assert found[-1] > 0.9


def test_variety_is_exact_where_bits_are_independent() -> None:
    latents = torch.tensor(list(itertools.product((-0.3, 0.5), repeat=BITS)))
    _, _, variety = quantizer_losses(as_clip(latents), all_drawn(latents))
    exact = entropy(code_probabilities(latents).mean(dim=0)) / BITS
    assert variety.item() == pytest.approx(exact.item(), rel=1e-5)


def test_variety_is_of_the_drawn_tokens_alone() -> None:
    every_code = list(itertools.product((-2.0, 2.0), repeat=BITS))
    latents = torch.tensor([[3.0] * BITS] * 100 + every_code)
    drawn = all_drawn(latents)
    _, _, of_all = quantizer_losses(as_clip(latents), drawn)
    drawn[:, :, :100] = False
    _, _, of_drawn = quantizer_losses(as_clip(latents), drawn)
    assert of_drawn.item() == pytest.approx(1, abs=1e-4)
    assert of_all.item() < 0.5
    drawn[:] = False
    assert all(torch.isfinite(term) for term in quantizer_losses(as_clip(latents), drawn))


def test_commitment_is_the_distance_from_the_signs() -> None:
    latents = torch.tensor([[0.5, -2.0, 1.0, -1.0]])
    commitment, _, _ = quantizer_losses(as_clip(latents), all_drawn(latents))
    assert commitment.item() == pytest.approx((0.25 + 1) / 4)


def test_entropies_have_finite_slopes_everywhere() -> None:
    latents = torch.tensor([[0.0, 40.0, -40.0, 1e4]], requires_grad=True)
    _, certainty, variety = quantizer_losses(as_clip(latents), all_drawn(latents))
    torch.autograd.backward(certainty - variety)
    assert latents.grad is not None
    assert latents.grad.isfinite().all()
    assert bit_entropy(torch.tensor([0.0, 0.5, 1.0])).tolist() == pytest.approx([0, 1, 0], abs=1e-4)


def test_the_straight_through_sign_is_that_of_the_quantizer() -> None:
    values = [-2.0, -1e-30, -0.0, 0.0, 1e-30, 3.0]
    latents = torch.tensor(values, requires_grad=True).reshape(1, 6, 1, 1, 1)
    latents.retain_grad()
    codes = straight_through(latents)
    ids = lfq.quantize(latents)
    np.testing.assert_allclose(codes.detach(), lfq.dequantize(ids, 6), atol=1e-6)
    torch.autograd.backward((codes * torch.arange(6.0).view(1, 6, 1, 1, 1)).sum())
    assert latents.grad is not None
    assert latents.grad.flatten().tolist() == [0, 1, 2, 3, 4, 5]


def test_drawn_pixels_and_the_ground_have_their_shares() -> None:
    wanted = torch.full((1, 3, 1, 8, 8), -1.0)
    drawn = torch.zeros(1, 1, 1, 8, 8, dtype=torch.bool)
    drawn[..., 0, :4] = True
    wanted[..., 0, :4] = 1.0
    black = torch.full_like(wanted, -1.0)
    squares = LossWeights(drawn=0.5, absolute=0)
    # Four of 64 pixels are wrong, by 2, and that is half of the loss.
    assert reconstruction_loss(black, wanted, drawn, squares).item() == pytest.approx(0.5 * 4)
    quarter = LossWeights(drawn=0.25, absolute=1)
    assert reconstruction_loss(black, wanted, drawn, quarter).item() == pytest.approx(0.25 * 2)
    gray = black + 0.5
    expected = 0.5 * 0.25 + 0.5 * 1.5**2
    assert reconstruction_loss(gray, wanted, drawn, squares).item() == pytest.approx(expected)
    nothing = torch.zeros_like(drawn)
    assert reconstruction_loss(black, black, nothing, squares).item() == 0


def test_the_sum_is_weighed() -> None:
    terms = Losses(*(torch.tensor(value) for value in (1.0, 10.0, 100.0, 1000.0)))
    weights = LossWeights(commitment=0.5, certainty=0.25, variety=0.125)
    assert terms.total(weights).item() == 1 + 5 + 25 - 125


def test_what_lies_around_a_drawing_counts_as_drawn() -> None:
    frames = torch.full((1, 3, 12, 12, 3), 7, dtype=torch.uint8)
    frames[0, 1, 5, 6] = 8
    drawn = drawn_pixels(frames, background=7)
    assert drawn.shape == (1, 1, 3, 12, 12)
    assert drawn[0, 0].sum(dim=(1, 2)).tolist() == [0, 25, 0]
    assert drawn[0, 0, 1, 3:8, 4:9].all()


@pytest.mark.parametrize(
    ("frame", "token"), [(0, 0), (1, 1), (4, 1), (5, 2), (8, 2), (13, 4), (16, 4)]
)
def test_a_token_has_its_own_frames_and_place(frame: int, token: int) -> None:
    drawn = torch.zeros(1, 1, 17, 32, 24, dtype=torch.bool)
    drawn[0, 0, frame, 15, 16] = True
    found = drawn_tokens(drawn, 4, 8)
    assert found.shape == (1, 1, 5, 4, 3)
    assert found.nonzero().tolist() == [[0, 0, token, 1, 2]]
