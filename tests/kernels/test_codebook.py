"""The search of a codebook on the CPU against NumPy's argmax."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from magvit_runtime.errors import InputError
from magvit_runtime.native_libraries.operators import codebook_argmax


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
@pytest.mark.parametrize(
    ("shape", "rows"), [((1, 256, 16, 16), 1024), ((3, 31, 7), 5000), ((2, 16, 2, 3, 4), 2)]
)
@pytest.mark.parametrize("threads", [None, 1, 3])
def test_ids_and_margins_are_those_of_float64(
    shape: tuple[int, ...], rows: int, dtype: type, threads: int | None
) -> None:
    random = np.random.default_rng(rows)
    latents = random.standard_normal(shape).astype(dtype)
    codebook = random.standard_normal((rows, shape[1])).astype(np.float32)
    scores = np.moveaxis(latents, 1, -1).astype(np.float64) @ codebook.T.astype(np.float64)
    ordered = np.sort(scores, axis=-1)
    expected = ordered[..., -1] - ordered[..., -2]
    channels_last = np.moveaxis(np.ascontiguousarray(np.moveaxis(latents, 1, -1)), -1, 1)
    for array in (latents, channels_last):
        ids, margins = codebook_argmax(array, codebook, threads)
        assert (ids.dtype, margins.dtype) == (np.int32, np.float32)
        np.testing.assert_allclose(margins, expected, rtol=0, atol=1e-4)
        clear = expected > 1e-4
        np.testing.assert_array_equal(ids[clear], scores.argmax(axis=-1)[clear])


@settings(max_examples=100, deadline=None)
@given(
    hnp.arrays(
        np.float32,
        hnp.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=60),
        elements=st.sampled_from([0.0, -0.0, 1.0, -2.0, 3.0, np.inf, -np.inf, np.nan]),
    )
)
def test_ties_infinities_and_nan_are_as_in_numpys_argmax(codebook: np.ndarray) -> None:
    """Of one column: products with 1 are the rows, and there are many equal ones."""
    column = codebook[:, :1]
    ids, _ = codebook_argmax(np.ones((1, 1, 2), np.float32), column)
    assert (ids == np.argmax(column[:, 0])).all()


def test_the_bound_that_is_stated_holds() -> None:
    """Of fp16 latents too, an id is that of exact arithmetic unless its margin is that small."""
    random = np.random.default_rng(3)
    channels = 256
    latents = random.standard_normal((4, channels, 16, 16)).astype(np.float16)
    codebook = random.standard_normal((4096, channels)).astype(np.float32)
    scores = np.moveaxis(latents, 1, -1).astype(np.float64) @ codebook.T.astype(np.float64)
    ids, margins = codebook_argmax(latents, codebook)
    lengths = np.linalg.norm(latents.astype(np.float64), axis=1)
    longest = np.linalg.norm(codebook.astype(np.float64), axis=1).max()
    bound = 2 * channels * 2.0**-24 * lengths * longest
    ordered = np.sort(scores, axis=-1)
    assert (np.abs(margins - (ordered[..., -1] - ordered[..., -2])) < bound).all()
    sure = ordered[..., -1] - ordered[..., -2] > bound
    assert sure.mean() > 0.9
    np.testing.assert_array_equal(ids[sure], scores.argmax(axis=-1)[sure])


@pytest.mark.parametrize(
    "codebook",
    [
        np.zeros((4, 17), np.float32),
        np.zeros((4, 18), np.float64),
        np.zeros((4, 3, 6), np.float32),
    ],
)
def test_a_codebook_that_doesnt_fit_is_refused(codebook: np.ndarray) -> None:
    with pytest.raises(InputError, match=r"expected float32 \[rows, 18\]"):
        codebook_argmax(np.zeros((1, 18, 4), np.float32), codebook)


def test_a_codebook_without_rows_is_refused() -> None:
    with pytest.raises(InputError, match=r"1 to 2\^31 - 2 rows"):
        codebook_argmax(np.zeros((1, 18, 4), np.float32), np.zeros((0, 18), np.float32))


def test_an_empty_batch_has_no_ids() -> None:
    ids, margins = codebook_argmax(
        np.zeros((0, 18, 4, 4), np.float32), np.zeros((4, 18), np.float32)
    )
    assert ids.shape == margins.shape == (0, 4, 4)
