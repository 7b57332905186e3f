"""Choosing a token by its logits: order, ties, ends of the range."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from magvit_runtime.errors import InputError
from magvit_runtime.sampling import Sampling, checked, choose

JUST_UNDER_1 = np.nextafter(1.0, 0.0)


def logits_of(*probabilities: float) -> NDArray[np.float32]:
    with np.errstate(divide="ignore"):
        return np.log(np.array([probabilities], np.float32))


def chosen(
    logits: NDArray[np.float32],
    uniform: float,
    *,
    null: NDArray[np.float32] | None = None,
    guidance: float = 0.0,
    temperature: float = 1.0,
    top_k: int = 0,
    top_p: float = 1.0,
) -> int:
    settings = checked(Sampling(), (guidance, 0.0), (temperature, 1.0), (top_k, 0), (top_p, 1.0))
    (value,) = choose(logits, null, np.array([uniform]), settings, 0)
    return int(value)


@pytest.mark.parametrize(
    ("uniform", "token"), [(0.0, 0), (0.19, 0), (0.21, 1), (0.49, 1), (0.51, 2), (JUST_UNDER_1, 2)]
)
def test_a_token_is_the_first_whose_cumulative_probability_exceeds_the_number(
    uniform: float, token: int
) -> None:
    assert chosen(logits_of(0.2, 0.3, 0.5), uniform) == token


def test_the_ends_choose_only_what_can_be() -> None:
    logits = np.array([[-np.inf, 0.0, 1.0, -np.inf]], np.float32)
    assert chosen(logits, 0.0) == 1
    assert chosen(logits, JUST_UNDER_1) == 2


def test_numbers_just_under_1_choose_the_last_where_the_sum_rounds_down() -> None:
    logits = np.random.default_rng(0).standard_normal((1, 4096)).astype(np.float32)
    for uniform in (JUST_UNDER_1, 1 - 1e-15):
        assert chosen(logits, uniform) == 4095
        assert chosen(logits, uniform, top_k=1) == int(logits.argmax())


@pytest.mark.parametrize("uniform", [0.0, 0.5, JUST_UNDER_1])
def test_cold_is_greedy(uniform: float) -> None:
    logits = np.array([[1.0, 3.0, 2.0, 2.999]], np.float32)
    assert chosen(logits, uniform, temperature=0.0) == 1
    assert chosen(logits, uniform, temperature=1e-9) == 1
    assert chosen(logits * 1e4, uniform, temperature=1e-5) == 1


def test_temperature_divides() -> None:
    logits = np.array([[0.0, 2.0]], np.float32)
    share = 1 / (1 + np.exp(1.0))  # Of the first, at temperature 2.
    assert chosen(logits, share - 1e-6, temperature=2.0) == 0
    assert chosen(logits, share + 1e-6, temperature=2.0) == 1


@pytest.mark.parametrize("top_k", [0, 4, 5, 10**9])
def test_top_k_of_all_or_more_keeps_all(top_k: int) -> None:
    logits = logits_of(0.1, 0.2, 0.3, 0.4)
    assert [chosen(logits, u, top_k=top_k) for u in (0.05, 0.2, 0.5, 0.9)] == [0, 1, 2, 3]


def test_top_k_keeps_all_that_equal_the_last() -> None:
    logits = np.array([[1.0, 5.0, 1.0, 0.0, 1.0]], np.float32)
    kept = {chosen(logits, u, top_k=2) for u in np.linspace(0, JUST_UNDER_1, 2001)}
    assert kept == {0, 1, 2, 4}
    assert {chosen(logits, u, top_k=1) for u in np.linspace(0, JUST_UNDER_1, 101)} == {1}


def test_top_p_keeps_the_value_that_crosses_the_share() -> None:
    logits = logits_of(0.5, 0.3, 0.15, 0.05)
    numbers = np.linspace(0, JUST_UNDER_1, 2001)
    assert {chosen(logits, u, top_p=0.7) for u in numbers} == {0, 1}
    assert {chosen(logits, u, top_p=0.9) for u in numbers} == {0, 1, 2}
    assert {chosen(logits, u, top_p=1e-12) for u in numbers} == {0}


def test_top_p_of_equal_values_keeps_the_smaller_ones() -> None:
    equal = np.zeros((1, 8), np.float32)
    assert {chosen(equal, u, top_p=0.3) for u in np.linspace(0, JUST_UNDER_1, 101)} == {0, 1, 2}


def test_top_k_comes_before_top_p() -> None:
    """Of 0.4, 0.3, 0.3 the best two have 4/7 and 3/7: a share of 0.5 then keeps the best alone."""
    logits = logits_of(0.4, 0.35, 0.25)
    numbers = np.linspace(0, JUST_UNDER_1, 501)
    assert {chosen(logits, u, top_p=0.5) for u in numbers} == {0, 1}
    assert {chosen(logits, u, top_k=2, top_p=0.5) for u in numbers} == {0}


def test_guidance_moves_away_from_the_null_class() -> None:
    logits, null = np.array([[1.0, 0.0]], np.float32), np.array([[0.0, 0.0]], np.float32)
    share = 1 / (1 + np.exp(-3.0))  # Of the first, at three times the difference.
    for uniform, token in ((share - 1e-6, 0), (share + 1e-6, 1)):
        assert chosen(logits, uniform, null=null, guidance=3.0) == token
    # Temperature comes after guidance.
    assert chosen(logits, share - 1e-6, null=null, guidance=6.0, temperature=2.0) == 0


@pytest.mark.parametrize("guidance", [0.0, 0.5, 1.0])
def test_guidance_up_to_1_is_off(guidance: float) -> None:
    assert not Sampling(guidance=(guidance, 0.0)).is_guided
    logits, null = logits_of(0.2, 0.8), logits_of(0.8, 0.2)
    assert chosen(logits, 0.19, null=null, guidance=guidance) == 0
    assert chosen(logits, 0.21, null=null, guidance=guidance) == 1


def test_rows_are_chosen_one_by_one() -> None:
    logits = np.random.default_rng(0).standard_normal((6, 64)).astype(np.float32)
    uniforms = np.random.default_rng(1).random(6)
    settings = Sampling(temperature=(1.3, 1.0), top_k=(20, 0), top_p=(0.8, 1.0))
    together = choose(logits, logits[::-1], uniforms, settings, 0)
    singly = [choose(logits[i, None], None, uniforms[i, None], settings, 0)[0] for i in range(6)]
    np.testing.assert_array_equal(together, singly)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("guidance", (-1.0, 1.0)),
        ("guidance", 2.0),
        ("temperature", (1.0,)),
        ("temperature", (float("nan"), 1.0)),
        ("temperature", (float("inf"), 1.0)),
        ("temperature", "hot"),
        ("top_k", (-1, 0)),
        ("top_k", (1.5, 0)),
        ("top_p", (0.0, 1.0)),
        ("top_p", (1.1, 1.0)),
        ("top_p", (1.0, 1.0, 1.0)),
    ],
)
def test_a_setting_out_of_range_is_named(name: str, value: object) -> None:
    with pytest.raises(InputError, match=f"`{name}`"):
        checked(Sampling(), **{name: value})  # type: ignore[arg-type]


def test_pairs_may_be_lists_and_what_is_not_given_stays() -> None:
    changed = checked(Sampling(guidance=(1.9, 2.0)), top_k=[5, 6])  # type: ignore[arg-type]
    assert changed == Sampling(guidance=(1.9, 2.0), top_k=(5, 6))
