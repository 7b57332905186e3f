"""Token ids, their bits and their two parts."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from seeded_checkpoints import golden

from magvit_runtime import bits_to_ids, factorize_ids, ids_to_bits, join_ids
from magvit_runtime.errors import InputError

SHAPES = arrays.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4)


@st.composite
def ids_of_some_bits(draw: st.DrawFn, at_least: int = 1) -> tuple[np.ndarray, int]:
    bits = draw(st.integers(at_least, 31))
    dtype = draw(st.sampled_from([np.int32, np.int64, np.uint32]))
    values = st.integers(0, 2**bits - 1)
    return draw(arrays.arrays(dtype, SHAPES, elements=values)), bits


@given(ids_of_some_bits())
def test_bits_and_back(case: tuple[np.ndarray, int]) -> None:
    ids, count = case
    bits = ids_to_bits(ids, count)
    assert bits.dtype == np.uint8
    assert bits.shape == (*ids.shape, count)
    back = bits_to_ids(bits)
    assert back.dtype == np.int32
    np.testing.assert_array_equal(back, ids)


@given(ids_of_some_bits(at_least=2), st.data())
def test_two_parts_and_back(case: tuple[np.ndarray, int], data: st.DataObject) -> None:
    ids, bits = case
    low_bits = data.draw(st.integers(1, bits - 1))
    pre, post = factorize_ids(ids, bits, low_bits)
    assert pre.dtype == post.dtype == np.int32
    assert (pre < 2**low_bits).all()
    assert (post < 2 ** (bits - low_bits)).all()
    np.testing.assert_array_equal(join_ids(pre, post, low_bits), ids)


def test_the_lowest_bit_comes_first() -> None:
    assert ids_to_bits(np.array([1, 6]), 4).tolist() == [[1, 0, 0, 0], [0, 1, 1, 0]]
    assert bits_to_ids(np.array([[True, False, False], [False, True, True]])).tolist() == [1, 6]


@pytest.mark.parametrize(("low_bits", "name"), [(6, "18_6_12"), (9, "18_9_9")])
def test_parts_against_the_reference(low_bits: int, name: str) -> None:
    data = golden("lfq")
    pre, post = factorize_ids(data["ids18"], 18, low_bits)
    np.testing.assert_array_equal(pre, data[f"pre{name}"])
    np.testing.assert_array_equal(post, data[f"post{name}"])
    np.testing.assert_array_equal(join_ids(pre, post, low_bits), data["ids18"])


def test_codes_against_the_reference() -> None:
    data = golden("lfq")
    bits = ids_to_bits(data["table_ids18"], 18)
    np.testing.assert_array_equal(2 * bits.astype(np.int8) - 1, data["table_codes18"])
    np.testing.assert_array_equal(bits_to_ids(data["table_codes18"] > 0), data["table_ids18"])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: ids_to_bits(np.array([0, 8]), 3),
            "token ids of 3 bits are out of range: found 0 to 8, expected 0 to 7",
        ),
        (
            lambda: ids_to_bits(np.array([-1]), 3),
            "token ids of 3 bits are out of range: found -1 to -1, expected 0 to 7",
        ),
        (
            lambda: ids_to_bits(np.array([2**63], np.uint64), 31),
            f"token ids of 31 bits are out of range: found {2**63} to {2**63}, "
            f"expected 0 to {2**31 - 1}",
        ),
        (
            lambda: ids_to_bits(np.array([1.0]), 3),
            "token ids must be integers: found float64",
        ),
        (lambda: ids_to_bits(np.array([0]), 0), "a token has 1 to 31 bits: found 0"),
        (lambda: bits_to_ids(np.zeros((2, 32), int)), "a token has 1 to 31 bits: found 32"),
        (lambda: bits_to_ids(np.array(1)), "a token has 1 to 31 bits: found 0"),
        (lambda: bits_to_ids(np.array([0, 2])), "bits must be 0 or 1: found values from 0 to 2"),
        (
            lambda: bits_to_ids(np.array([-1, 1])),
            "bits must be 0 or 1: found values from -1 to 1",
        ),
        (
            lambda: bits_to_ids(np.array([0.5, 1])),
            "bits must be 0 or 1: found values from 0.5 to 1.0",
        ),
        (
            lambda: factorize_ids(np.array([0]), 18, 18),
            "`low_bits` is out of range: found 18, expected 1..17",
        ),
        (
            lambda: factorize_ids(np.array([0]), 18, 0),
            "`low_bits` is out of range: found 0, expected 1..17",
        ),
        (
            lambda: join_ids(np.array([64]), np.array([0])),
            "token ids of 6 bits are out of range: found 64 to 64, expected 0 to 63",
        ),
        (
            lambda: join_ids(np.array([0]), np.array([2**25])),
            "token ids of 25 bits are out of range: "
            f"found {2**25} to {2**25}, expected 0 to {2**25 - 1}",
        ),
    ],
)
def test_what_cant_be_a_token(call, message: str) -> None:
    with pytest.raises(InputError) as error:
        call()
    assert str(error.value) == message
