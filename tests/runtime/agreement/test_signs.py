"""SignAgreement of latents, in units of their spread, and of tokens."""

from __future__ import annotations

import numpy as np
import pytest

from magvit_runtime import InputError, bits_to_ids
from magvit_runtime.agreement.signs import SignAccumulator, compare_latents


@pytest.fixture
def reference() -> np.ndarray:
    return np.random.default_rng(0).standard_normal((4, 18, 5, 16, 16)) * 3


@pytest.fixture
def latents(reference: np.ndarray) -> np.ndarray:
    """The reference with an error of 1e-3 σ."""
    noise = np.random.default_rng(1).standard_normal(reference.shape)
    return reference + 1e-3 * reference.std() * noise


def ids_of(latents: np.ndarray) -> np.ndarray:
    return bits_to_ids(np.moveaxis(latents > 0, 1, -1))


def test_equal_latents_agree(reference: np.ndarray) -> None:
    agreement = compare_latents(reference.astype(np.float32), reference.astype(np.float32))
    assert (agreement.rms, agreement.max, agreement.flipped_bits) == (0, 0, 0)
    assert (agreement.bits, agreement.tokens) == (reference.size, reference.size // 18)
    assert agreement.passes("fp32")


def test_an_error_of_known_size(reference: np.ndarray, latents: np.ndarray) -> None:
    agreement = compare_latents(latents, reference)
    assert agreement.rms == pytest.approx(1e-3, rel=0.02)
    assert agreement.spread == pytest.approx(reference.std(), rel=1e-12)
    assert 0 < agreement.flipped_bits < 1e-3 * agreement.bits
    assert 0 < agreement.changed_tokens <= agreement.flipped_bits
    assert agreement.bit_flip_rate == agreement.flipped_bits / agreement.bits
    assert agreement.token_change_rate == agreement.changed_tokens / agreement.tokens
    assert agreement.outside_margin == 0
    assert agreement.passes("fp16")
    assert not agreement.passes("fp32")


def test_by_hand() -> None:
    """Two bits, two positions; σ_z = 5, e = 0, 0.4, 0, 0.8 and one bit of each token flips."""
    reference = np.array([5.0, -1.0, -5.0, 5.0 - 4.0]).reshape(1, 2, 2)
    reference *= 5 / reference.std()
    error = np.array([0.0, 2.0, 0.0, -4.0]).reshape(1, 2, 2)
    agreement = compare_latents(reference + error, reference)
    rms = np.sqrt((0.4**2 + 0.8**2) / 4)
    assert agreement.spread == pytest.approx(5)
    assert agreement.rms == pytest.approx(rms)
    assert agreement.max == pytest.approx(0.8)
    assert (agreement.flipped_bits, agreement.changed_tokens) == (2, 1)
    margin = abs(reference[0, 0, 1]) / 5 / rms
    expected = [0] * 11
    expected[int(margin)] = 2
    assert agreement.flips_by_margin == tuple(expected)
    np.testing.assert_allclose(agreement.channels.rms, [0.4 / 2**0.5, 0.8 / 2**0.5])
    np.testing.assert_allclose(agreement.positions[2,].rms, [0, rms * 2**0.5])
    np.testing.assert_array_equal(agreement.positions[2,].flip_rate, [0, 1])


def test_batches_add_up_to_the_whole(reference: np.ndarray, latents: np.ndarray) -> None:
    accumulator = SignAccumulator()
    for i in (0, 1):
        accumulator.add(latents[i : i + 1], reference[i : i + 1])
    accumulator.add(latents[2:], reference[2:])
    streamed, whole = accumulator.result(), compare_latents(latents, reference)
    for name in ("rms", "max", "spread", "worst_clip_rms"):
        assert getattr(streamed, name) == pytest.approx(getattr(whole, name), rel=1e-12)
    for name in ("bits", "flipped_bits", "tokens", "changed_tokens", "flips_by_margin"):
        assert getattr(streamed, name) == getattr(whole, name)
    np.testing.assert_allclose(streamed.channels.rms, whole.channels.rms)
    grid = reference.shape[2:]
    np.testing.assert_allclose(streamed.positions[grid].rms, whole.positions[grid].rms)


def test_clips_of_several_sizes_have_tables_of_their_own(reference: np.ndarray) -> None:
    accumulator = SignAccumulator()
    accumulator.add(reference, reference)
    accumulator.add(reference[:, :, :2, :3, :4], reference[:, :, :2, :3, :4])
    assert set(accumulator.result().positions) == {(5, 16, 16), (2, 3, 4)}


def test_tables_show_where_the_error_is(reference: np.ndarray) -> None:
    latents = reference.copy()
    latents[:, 7, 4, 2, 3] *= -1
    agreement = compare_latents(latents, reference)
    assert np.flatnonzero(agreement.channels.flip_rate).tolist() == [7]
    table = agreement.positions[5, 16, 16]
    assert np.argwhere(table.rms).tolist() == [[4, 2, 3]]
    assert table.flip_rate[4, 2, 3] == 1 / 18


def test_flips_fall_off_with_the_margin(reference: np.ndarray, latents: np.ndarray) -> None:
    flips = compare_latents(latents, reference).flips_by_margin
    assert flips[0] > flips[1]
    assert flips[5:] == (0,) * 6


def test_one_flip_of_a_large_latent_fails(reference: np.ndarray) -> None:
    wrong = reference.copy()
    place = np.unravel_index(np.abs(reference).argmax(), reference.shape)
    wrong[place] = -wrong[place]
    agreement = compare_latents(wrong, reference)
    assert (agreement.flipped_bits, agreement.changed_tokens, agreement.outside_margin) == (1, 1, 1)
    assert not agreement.passes("bf16")


def test_bits_in_the_wrong_order_fail(reference: np.ndarray) -> None:
    assert not compare_latents(reference[:, ::-1], reference).passes("bf16")


def test_ids_must_spell_the_bits_of_their_own_latents(
    reference: np.ndarray, latents: np.ndarray
) -> None:
    assert compare_latents(latents, reference, ids_of(latents)).wrong_ids == 0
    most_significant_first = ids_of(latents[:, ::-1])
    agreement = compare_latents(latents, reference, most_significant_first)
    assert agreement.wrong_ids > 0.99 * agreement.tokens
    assert not agreement.passes("fp16")


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_isnt_finite_fails(reference: np.ndarray, value: float) -> None:
    latents = reference.astype(np.float32)
    latents[1, 2, 3, 4, 5] = value
    assert not compare_latents(latents, reference).passes("bf16")


def test_intervals_cover_the_figures_and_are_the_same_every_time(
    reference: np.ndarray, latents: np.ndarray
) -> None:
    agreement = compare_latents(latents, reference)
    intervals = agreement.intervals
    assert intervals is not None
    assert intervals == compare_latents(latents, reference).intervals
    assert intervals.rms[0] <= agreement.rms <= intervals.rms[1]
    low, high = intervals.token_change_rate
    assert low <= agreement.token_change_rate <= high
    assert low < high


def test_results_of_one_name_are_one_clip(reference: np.ndarray, latents: np.ndarray) -> None:
    accumulator = SignAccumulator()
    for _ in range(2):
        accumulator.add(latents[:1], reference[:1], names=["drawn"])
    assert accumulator.result().intervals is None


def test_what_cant_be_compared_is_refused(reference: np.ndarray) -> None:
    with pytest.raises(InputError, match="latents can't be compared"):
        compare_latents(reference[:, :, :1], reference)
    with pytest.raises(InputError, match="nothing to compare"):
        SignAccumulator().result()
    with pytest.raises(InputError, match="no spread"):
        compare_latents(np.ones((1, 2, 2)), np.ones((1, 2, 2)))
