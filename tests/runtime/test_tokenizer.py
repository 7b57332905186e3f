"""Clips in, token ids out."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
from numpy.typing import NDArray

from magvit_runtime import BackendError, InputError, Tokenizer

EXPECTED = "expected uint8 [batch, frames, height, width, 3] (RGB frames)"


@pytest.fixture(scope="module")
def tokenizer(tiny_bundle: Path) -> Iterator[Tokenizer]:
    with Tokenizer.open(tiny_bundle) as tokenizer:
        yield tokenizer


def clips(count: int, frames: int = 3, height: int = 16, width: int = 24) -> NDArray[np.uint8]:
    shape = (count, frames, height, width, 3)
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


def test_ids_are_int32_of_the_bundles_bits(tokenizer: Tokenizer) -> None:
    ids = tokenizer(clips(2))
    assert ids.dtype == np.int32
    assert ids.shape == (2, 3, 8, 12)
    assert ids.min() >= 0
    assert ids.max() < 2**18
    assert len(np.unique(ids)) > 100


@pytest.mark.parametrize(
    ("sizes", "grid"),
    [((1, 16, 16), (1, 8, 8)), ((4, 17, 31), (4, 9, 16)), ((2, 2, 2), (2, 1, 1))],
)
def test_any_size_is_taken_and_grids_round_up(
    tokenizer: Tokenizer, sizes: tuple[int, ...], grid: tuple[int, ...]
) -> None:
    assert tokenizer(clips(1, *sizes)).shape == (1, *grid)


def test_the_small_preset_has_the_released_models_grid(small_bundle: Path) -> None:
    with Tokenizer.open(small_bundle) as tokenizer:
        assert tokenizer(clips(1, 17, 128, 128)).shape == (1, 5, 16, 16)
        assert tokenizer.clip_shape == ("frames", "height", "width", 3)


def test_the_sign_of_latents_is_the_ids_bits(tokenizer: Tokenizer) -> None:
    batch = clips(1)
    latents = tokenizer.latents(batch)
    assert latents.dtype == np.float32
    assert latents.shape == (1, 18, 3, 8, 12)
    bits = (latents > 0).astype(np.int64)
    powers = (1 << np.arange(18)).reshape(18, 1, 1, 1)
    np.testing.assert_array_equal((bits * powers).sum(axis=1), tokenizer(batch))


@pytest.mark.parametrize("batch_size", [1, 2, 5, 8])
def test_a_batch_gives_what_its_clips_give(tiny_bundle: Path, batch_size: int) -> None:
    five = clips(5)
    with Tokenizer.open(tiny_bundle, batch_size=batch_size) as tokenizer:
        together = tokenizer(five)
        singly = np.concatenate([tokenizer(clip[None]) for clip in five])
    np.testing.assert_array_equal(together, singly)


def test_memory_order_makes_no_difference(tokenizer: Tokenizer) -> None:
    batch = clips(2)
    expected = tokenizer(batch)
    np.testing.assert_array_equal(tokenizer(np.asfortranarray(batch)), expected)
    channels_first = np.ascontiguousarray(batch.transpose(0, 4, 1, 2, 3))
    np.testing.assert_array_equal(tokenizer(channels_first.transpose(0, 2, 3, 4, 1)), expected)
    np.testing.assert_array_equal(tokenizer(np.repeat(batch, 2, axis=0)[::2]), expected)
    batch.flags.writeable = False
    np.testing.assert_array_equal(tokenizer(batch), expected)


def test_a_stream_takes_one_batch_at_a_time(tokenizer: Tokenizer) -> None:
    read: list[int] = []

    def batches() -> Iterator[NDArray[np.uint8]]:
        for i in range(3):
            read.append(i)
            yield clips(i + 1)

    for i, ids in enumerate(tokenizer.stream(batches())):
        assert read == list(range(i + 1))
        np.testing.assert_array_equal(ids, tokenizer(clips(i + 1)))
    assert len(read) == 3


def test_threads_that_call_at_once_agree(tokenizer: Tokenizer) -> None:
    batches = [clips(1, frames) for frames in (1, 2, 3, 4)] * 4
    expected = [tokenizer(batch) for batch in batches]
    with ThreadPoolExecutor(8) as pool:
        for ids, one in zip(pool.map(tokenizer, batches), expected, strict=True):
            np.testing.assert_array_equal(ids, one)


@pytest.mark.parametrize(
    ("array", "found"),
    [
        (np.zeros((1, 3, 8, 8, 3), np.float32), "float32 [1, 3, 8, 8, 3]"),
        (np.zeros((1, 3, 8, 8, 3), np.int8), "int8 [1, 3, 8, 8, 3]"),
        (np.zeros((3, 8, 8, 3), np.uint8), "uint8 [3, 8, 8, 3]"),
        (np.zeros((1, 3, 3, 8, 8), np.uint8), "uint8 [1, 3, 3, 8, 8]"),
        (np.zeros((1, 3, 8, 8, 4), np.uint8), "uint8 [1, 3, 8, 8, 4]"),
        (np.array(0, np.uint8), "uint8 []"),
    ],
)
def test_arrays_that_are_no_clips(tokenizer: Tokenizer, array: np.ndarray, found: str) -> None:
    with pytest.raises(InputError) as error:
        tokenizer(array)
    assert str(error.value) == f"clips don't fit this model: found {found}, {EXPECTED}"


@pytest.mark.parametrize(
    ("nothing", "found"),
    [
        (np.zeros((0, 3, 8, 8, 3), np.uint8), "uint8 [0, 3, 8, 8, 3]"),
        (np.zeros((1, 3, 0, 8, 3), np.uint8), "uint8 [1, 3, 0, 8, 3]"),
        (np.array([]), "float64 [0]"),
        ([], "an empty list"),
        ((), "an empty tuple"),
    ],
)
def test_an_empty_batch_is_called_empty(tokenizer: Tokenizer, nothing: Any, found: str) -> None:
    with pytest.raises(InputError) as error:
        tokenizer(nothing)
    one = EXPECTED.replace("expected", "expected one at least:")
    assert str(error.value) == (
        f"clips are empty: found {found}, {one}. "
        "Fix: leave out the call where there is nothing to run"
    )


def test_something_that_is_no_array(tokenizer: Tokenizer) -> None:
    with pytest.raises(InputError) as error:
        tokenizer(clips(1).tolist())
    assert str(error.value) == "clips must be a NumPy array: found list"


def test_a_closed_tokenizer_says_so(tiny_bundle: Path) -> None:
    tokenizer = Tokenizer.open(tiny_bundle)
    tokenizer.close()
    tokenizer.close()
    with pytest.raises(BackendError, match="this session is closed"):
        tokenizer(clips(1))


def test_leaving_the_block_closes_it(tiny_bundle: Path) -> None:
    with Tokenizer.open(tiny_bundle) as tokenizer:
        tokenizer(clips(1))
    with pytest.raises(BackendError, match="this session is closed"):
        tokenizer.latents(clips(1))


@pytest.mark.parametrize("batch_size", [0, -1])
def test_batch_size_must_be_positive(tiny_bundle: Path, batch_size: int) -> None:
    with pytest.raises(InputError) as error:
        Tokenizer.open(tiny_bundle, batch_size=batch_size)
    assert str(error.value) == f"`batch_size` must be positive: found {batch_size}"


@pytest.mark.parametrize("backend", ["auto", "native", "onnxruntime"])
def test_a_cpu_has_no_workers_and_no_device_arrays(
    tiny_bundle: Path, backend: Literal["auto", "native", "onnxruntime"]
) -> None:
    with Tokenizer.open(tiny_bundle, backend=backend) as tokenizer:
        facts = tokenizer.capabilities
        assert (facts.workers, facts.device_arrays) == (0, False)
        refusal = f"{facts.backend} takes no arrays on a GPU.*native-cuda"
        with pytest.raises(BackendError, match=refusal):
            tokenizer.encode_device(clips(1))
    with pytest.raises(InputError, match=f"{facts.backend} has no workers.*leave `workers` out"):
        Tokenizer.open(tiny_bundle, backend=backend, workers=2)


@pytest.mark.parametrize("workers", [0, -1])
def test_workers_must_be_positive(tiny_bundle: Path, workers: int) -> None:
    with pytest.raises(InputError) as error:
        Tokenizer.open(tiny_bundle, workers=workers)
    assert str(error.value) == f"`workers` must be positive: found {workers}"


def test_a_warm_up_takes_what_the_model_takes(tokenizer: Tokenizer) -> None:
    tokenizer.warm_up((3, 16, 24, 3))
    with pytest.raises(InputError, match="found 2, expected 1 to `batch_size`, 1"):
        tokenizer.warm_up((3, 16, 24, 3), batches=[2])
    with pytest.raises(
        InputError, match=r"clips don't fit this model: found uint8 \[1, 16, 24, 3\]"
    ):
        tokenizer.warm_up((16, 24, 3))
