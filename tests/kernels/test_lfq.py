"""LFQ on the CPU against the reference's stored ids and against NumPy."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from magvit_runtime.errors import InputError
from magvit_runtime.native_libraries.operators import lfq

GOLDEN = Path(__file__).resolve().parents[1] / "golden" / "lfq.npz"


def ids_by_numpy(latents: np.ndarray) -> np.ndarray:
    bits = np.moveaxis(latents, 1, -1).astype(np.float32) > 0
    return (bits * (1 << np.arange(latents.shape[1]))).sum(-1).astype(np.int32)


@pytest.mark.parametrize("bits", [18, 14])
def test_ids_of_the_reference_implementation(bits: int) -> None:
    with np.load(GOLDEN) as golden:
        latents, ids = golden[f"z{bits}"], golden[f"ids{bits}"]
    np.testing.assert_array_equal(lfq(latents), ids)


def test_ids_of_the_reference_code_table() -> None:
    with np.load(GOLDEN) as golden:
        codes, ids = golden["table_codes18"], golden["table_ids18"]
    np.testing.assert_array_equal(lfq(codes.astype(np.float16).T[None]), ids[None])


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_only_what_is_above_zero_sets_a_bit(dtype: type) -> None:
    tiny = np.finfo(dtype).smallest_subnormal
    values = [0.0, -0.0, np.nan, -np.nan, np.inf, -np.inf, tiny, -tiny, 1.0, -1.0]
    latents = np.array(values, dtype).reshape(1, 1, -1)
    np.testing.assert_array_equal(lfq(latents)[0], [0, 0, 0, 0, 1, 0, 1, 0, 1, 0])


@settings(max_examples=200, deadline=None)
@given(data=st.data(), dtype=st.sampled_from([np.float16, np.float32]))
def test_any_floats_of_any_shape(data: st.DataObject, dtype: type) -> None:
    rest = data.draw(st.lists(st.integers(1, 5), min_size=1, max_size=3))
    shape = (data.draw(st.integers(1, 3)), data.draw(st.integers(1, 31)), *rest)
    words = data.draw(hnp.arrays(np.uint16 if dtype == np.float16 else np.uint32, shape))
    latents = words.view(dtype)  # every bit pattern: NaN payloads and subnormals included
    np.testing.assert_array_equal(lfq(latents), ids_by_numpy(latents))


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
@pytest.mark.parametrize(
    "shape", [(1, 18, 5, 16, 16), (3, 31, 7, 9), (2, 1, 4097), (8, 14, 65, 63)]
)
@pytest.mark.parametrize("threads", [None, 1, 3])
def test_layouts_and_threads(shape: tuple[int, ...], dtype: type, threads: int | None) -> None:
    latents = np.random.default_rng(0).standard_normal(shape).astype(dtype)
    expected = ids_by_numpy(latents)
    channels_last = np.moveaxis(np.ascontiguousarray(np.moveaxis(latents, 1, -1)), -1, 1)
    reversed_strides = np.ascontiguousarray(latents[..., ::-1])[..., ::-1]
    for array in (latents, channels_last, reversed_strides):
        ids = lfq(array, threads=threads)
        assert ids.dtype == np.int32
        np.testing.assert_array_equal(ids, expected)


def test_an_empty_batch_has_no_ids() -> None:
    assert lfq(np.zeros((0, 18, 5, 16, 16), np.float32)).shape == (0, 5, 16, 16)


@pytest.mark.parametrize(
    ("latents", "message"),
    [
        (np.zeros((1, 32, 4), np.float32), "1 to 31 channels"),
        (np.zeros((1, 18, 4), np.float64), "found float64 of rank 3"),
        (np.zeros((1, 18), np.float32), "expected float32 or float16 of rank 3 to 5"),
    ],
)
def test_what_does_not_fit_is_refused(latents: np.ndarray, message: str) -> None:
    with pytest.raises(InputError, match=message):
        lfq(latents)
